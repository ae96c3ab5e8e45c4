//! The table of routes: each with those who may call it. What is not in the table is neither served nor described.

use axum::Router;
use std::sync::Arc;

use axum::http::Method;
use axum::middleware::from_fn_with_state;
use serde::Serialize;
use utoipa::openapi::OpenApi;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use super::caller::{Judge, require};
use super::{
    Gateway, Role, approvals, claim, dead_letters, docs, events, health, leases, link, list, metrics, moves, openapi,
    output, priority, root, schedules, sla, task_details, tasks, timeline,
};

/// Who may call a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Anybody, without a credential.
    Anybody,
    /// Whoever has the signed link that is part of the path.
    Link,
    /// A caller with at least this role.
    Role(Role),
    /// A caller who may decide on approvals: [`GatewayConfig::approver_role`](super::GatewayConfig::approver_role).
    Approver,
}

/// One row of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The method.
    pub method: Method,
    /// The path, with `{…}` for what varies.
    pub path: String,
    /// Who may call it.
    pub access: Access,
}

/// All rows, in the order of the document.
#[must_use]
pub fn rules() -> Vec<Rule> {
    table(&Arc::default(), Role::Agent, None).rules
}

/// Routes, each with its rule.
pub(super) struct Table {
    routes: OpenApiRouter<Gateway>,
    rules: Vec<Rule>,
    judge: Arc<Judge>,
    approver: Role,
}

impl Table {
    /// Adds a route. Who is let through is settled here, before a handler or a body is looked at.
    fn add(mut self, access: Access, (schemas, mut paths, mut handlers): UtoipaMethodRouter<Gateway>) -> Self {
        let needed = match access {
            Access::Anybody | Access::Link => None,
            Access::Role(role) => Some(role),
            Access::Approver => Some(self.approver),
        };
        if let Some(role) = needed {
            handlers = handlers.route_layer(from_fn_with_state((self.judge.clone(), role), require));
        }
        for (path, item) in &mut paths.paths {
            for (method, operation) in operations(item) {
                openapi::complete(operation, path, access);
                self.rules.push(Rule { method, path: path.clone(), access });
            }
        }
        self.routes = self.routes.routes((schemas, paths, handlers));
        self
    }

    /// What is served, and its description.
    pub(super) fn split(self) -> (Router<Gateway>, OpenApi) {
        let (routes, document) = self.routes.split_for_parts();
        (routes, openapi::whole(document))
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = (Method, &mut Operation)> {
    let all = [
        (Method::GET, &mut item.get),
        (Method::POST, &mut item.post),
        (Method::PUT, &mut item.put),
        (Method::PATCH, &mut item.patch),
        (Method::DELETE, &mut item.delete),
    ];
    all.into_iter().filter_map(|(method, operation)| Some((method, operation.as_mut()?)))
}

/// Everything that the gateway serves; `scraper` is the role that reading its figures needs, if any.
pub(super) fn table(judge: &Arc<Judge>, approver: Role, scraper: Option<Role>) -> Table {
    use Access::{Anybody, Approver, Link};
    const USER: Access = Access::Role(Role::User);
    const AGENT: Access = Access::Role(Role::Agent);
    const ADMIN: Access = Access::Role(Role::Admin);

    let empty = Table {
        routes: OpenApiRouter::with_openapi(openapi::empty()),
        rules: Vec::new(),
        judge: judge.clone(),
        approver,
    };
    empty
        .add(Anybody, routes!(root::about))
        .add(Anybody, routes!(health::livez))
        .add(Anybody, routes!(health::readyz))
        .add(Anybody, routes!(health::health))
        .add(scraper.map_or(Anybody, Access::Role), routes!(metrics::metrics))
        .add(Anybody, routes!(root::stats))
        .add(AGENT, routes!(tasks::create))
        .add(USER, routes!(list::list))
        .add(AGENT, routes!(claim::claim))
        .add(USER, routes!(tasks::read))
        .add(AGENT, routes!(moves::report))
        .add(AGENT, routes!(moves::cancel))
        .add(AGENT, routes!(moves::retry))
        .add(AGENT, routes!(priority::change))
        .add(AGENT, routes!(leases::heartbeat))
        .add(AGENT, routes!(leases::progress))
        .add(AGENT, routes!(output::put_out))
        .add(AGENT, routes!(leases::complete))
        .add(AGENT, routes!(leases::fail))
        .add(AGENT, routes!(leases::release))
        .add(AGENT, routes!(leases::park))
        .add(USER, routes!(task_details::sla))
        .add(USER, routes!(task_details::journal))
        .add(USER, routes!(timeline::events))
        .add(USER, routes!(dead_letters::list))
        .add(USER, routes!(dead_letters::groups))
        .add(AGENT, routes!(dead_letters::retry))
        .add(ADMIN, routes!(dead_letters::delete_all))
        .add(USER, routes!(dead_letters::read))
        .add(ADMIN, routes!(dead_letters::delete))
        .add(USER, routes!(output::follow))
        .add(USER, routes!(schedules::list))
        .add(AGENT, routes!(schedules::create))
        .add(USER, routes!(schedules::read))
        .add(AGENT, routes!(schedules::put))
        .add(AGENT, routes!(schedules::remove))
        .add(AGENT, routes!(schedules::pause))
        .add(AGENT, routes!(schedules::resume))
        .add(AGENT, routes!(schedules::trigger))
        .add(AGENT, routes!(events::publish))
        .add(USER, routes!(events::follow))
        .add(USER, routes!(sla::report))
        .add(USER, routes!(sla::risk))
        .add(USER, routes!(approvals::pending))
        .add(USER, routes!(approvals::history))
        .add(USER, routes!(approvals::read))
        .add(Approver, routes!(approvals::approve))
        .add(Approver, routes!(approvals::reject))
        .add(Approver, routes!(approvals::delegate))
        .add(Link, routes!(link::show, link::decide))
        .add(Anybody, routes!(docs::openapi))
        .add(Anybody, routes!(docs::page))
        .add(Anybody, routes!(docs::file))
}
