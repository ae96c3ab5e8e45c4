//! How many requests a client may send in a minute, by route.

use crate::{Error, Result};

/// Highest limit: the instants of so many requests are kept for each client and endpoint.
const LIMIT_MAX: u32 = 10_000;

/// What probes and scrapers ask: never limited, because they must not depend on Redis.
pub(super) const FREE: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Requests that are admitted within any 60 seconds, for each client address and each endpoint: 1 to 10,000, or 0 for as
/// many as come. An endpoint is a route with all its methods; all ids of a route share what it has, and all unknown paths
/// are one endpoint. `/livez`, `/readyz` and `/metrics` are never limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RateLimits {
    /// `/tasks`.
    pub tasks: u32,
    /// `/events/publish`.
    pub events: u32,
    /// Each route that begins with `/approvals/`.
    pub approvals: u32,
    /// `/stats`.
    pub stats: u32,
    /// `/health`.
    pub health: u32,
    /// Each route of workers: `/tasks/claim`, and what begins with `/tasks/{id}/lease`.
    pub workers: u32,
    /// Each other endpoint.
    pub default: u32,
}

impl Default for RateLimits {
    /// `/tasks` 30, `/events/publish` 100, `/health` 300, routes of workers 600, all others 60.
    fn default() -> Self {
        Self { tasks: 30, events: 100, approvals: 60, stats: 60, health: 300, workers: 600, default: 60 }
    }
}

impl RateLimits {
    /// As many as come.
    #[must_use]
    pub fn none() -> Self {
        Self { tasks: 0, events: 0, approvals: 0, stats: 0, health: 0, workers: 0, default: 0 }
    }

    /// Sets the limit that the environment calls so: `TASKS`.
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let limit = match name {
            "TASKS" => &mut self.tasks,
            "EVENTS" => &mut self.events,
            "APPROVALS" => &mut self.approvals,
            "STATS" => &mut self.stats,
            "HEALTH" => &mut self.health,
            "WORKERS" => &mut self.workers,
            "DEFAULT" => &mut self.default,
            _ => return Err(Error::invalid("is no rate limit")),
        };
        let wrong =
            || Error::invalid(format!("is no limit; write requests a minute, 1 to {LIMIT_MAX}, or 0 for no limit"));
        *limit = value.parse().ok().filter(|limit| *limit <= LIMIT_MAX).ok_or_else(wrong)?;
        Ok(())
    }

    /// The limit of a route, 0 for none. It is held within its bounds, whoever set it.
    pub(super) fn of(&self, route: &str) -> u32 {
        let limit = match route {
            route if FREE.contains(&route) => 0,
            "/tasks" => self.tasks,
            "/events/publish" => self.events,
            "/stats" => self.stats,
            "/health" => self.health,
            route if route.starts_with("/approvals/") => self.approvals,
            route if is_of_workers(route) => self.workers,
            _ => self.default,
        };
        limit.min(LIMIT_MAX)
    }
}

fn is_of_workers(route: &str) -> bool {
    let mut parts = route.strip_prefix("/tasks/").unwrap_or_default().split('/');
    match (parts.next(), parts.next()) {
        (Some("claim"), _) => true,
        (Some(id), Some("lease")) => id.starts_with('{'),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_route_has_its_limit() {
        let limits = RateLimits { tasks: 1, events: 2, approvals: 3, stats: 4, health: 5, workers: 6, default: 7 };
        for (route, limit) in [
            ("/tasks", 1),
            ("/events/publish", 2),
            ("/approvals/pending", 3),
            ("/approvals/{approval_id}/approve", 3),
            ("/stats", 4),
            ("/health", 5),
            ("/tasks/claim", 6),
            ("/tasks/{id}/lease", 6),
            ("/tasks/{task_id}/lease/renew", 6),
            ("/tasks/{id}", 7),
            ("/tasks/{id}/events", 7),
            ("/events", 7),
            ("/", 7),
            ("(none)", 7),
            ("/livez", 0),
            ("/readyz", 0),
            ("/metrics", 0),
        ] {
            assert_eq!(limits.of(route), limit, "{route}");
            assert_eq!(RateLimits::none().of(route), 0, "{route}");
        }
        assert_eq!(RateLimits { tasks: u32::MAX, ..limits }.of("/tasks"), LIMIT_MAX);
    }
}
