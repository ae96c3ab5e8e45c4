//! Which handlers a worker has: found at link time, or registered by hand.

use std::collections::HashMap;
use std::sync::Arc;

use orchestrator::{Backoff, CANCEL_GRACE_MAX, Error, Gate, Result, SlaTerms, Unique, check_name};

use crate::extract::State;
use crate::handler::{HandlerSpec, TaskHandler};
use crate::middleware::Around;

/// One handler known at link time.
#[derive(Debug)]
pub struct Registration {
    make: fn() -> Box<dyn TaskHandler>,
    file: &'static str,
    line: u32,
}

impl Registration {
    /// Used by the code that `#[task_handler]` makes.
    #[must_use]
    pub const fn new(make: fn() -> Box<dyn TaskHandler>, file: &'static str, line: u32) -> Self {
        Self { make, file, line }
    }
}

inventory::collect!(Registration);

/// A handler ready to be called.
#[derive(Clone)]
pub(crate) struct Registered {
    pub(crate) spec: Arc<HandlerSpec>,
    pub(crate) handler: Arc<dyn TaskHandler>,
    place: String,
}

/// Handlers by task type.
#[derive(Clone, Default)]
pub(crate) struct Registry(HashMap<&'static str, Registered>);

impl Registry {
    /// Adds what was found at link time. The order is the linker's, so nothing depends on it.
    pub(crate) fn discover(&mut self) -> Result {
        for found in inventory::iter::<Registration> {
            self.add((found.make)(), format!("{}:{}", found.file, found.line))?;
        }
        Ok(())
    }

    /// Adds one handler; the same one twice is one.
    pub(crate) fn add(&mut self, handler: Box<dyn TaskHandler>, place: String) -> Result {
        let spec = handler.spec();
        check_name("task type", spec.task_type)?;
        check_name("queue", spec.home())?;
        if let Some(grace) = spec.cancel_grace.filter(|grace| *grace > CANCEL_GRACE_MAX) {
            let what = format!(
                "the handler of `{}` at {place}: its cancel_grace of {grace:?} is longer than {CANCEL_GRACE_MAX:?}",
                spec.task_type
            );
            return Err(Error::Invalid { what });
        }
        let policies = spec.approval.as_ref().map(Gate::check).transpose();
        let policies = policies.and(spec.sla.as_ref().map(SlaTerms::check).transpose());
        let policies = policies.and(spec.unique.as_ref().map(Unique::check).transpose());
        let policies = policies.and(spec.backoff.as_ref().map(Backoff::check).transpose());
        policies.and_then(|_| crate::schedules::check(&spec)).map_err(|error| Error::Invalid {
            what: format!("the handler of `{}` at {place}: {error}", spec.task_type),
        })?;
        if let Some(other) = self.0.get(spec.task_type) {
            if other.spec.location == spec.location {
                return Ok(());
            }
            return Err(Error::Invalid {
                what: format!(
                    "task type `{}` has two handlers, at {} and at {place}; give one of them another type",
                    spec.task_type, other.place
                ),
            });
        }
        self.0.insert(spec.task_type, Registered { spec: Arc::new(spec), handler: handler.into(), place });
        Ok(())
    }

    /// Puts this around all handlers.
    pub(crate) fn wrap(&mut self, around: &Around) {
        for registered in self.0.values_mut() {
            registered.handler = around.wrap(Arc::clone(&registered.handler));
        }
    }

    pub(crate) fn get(&self, task_type: &str) -> Option<&Registered> {
        self.0.get(task_type)
    }

    /// All handlers, by type.
    pub(crate) fn specs(&self) -> Vec<&HandlerSpec> {
        let mut specs: Vec<&HandlerSpec> = self.0.values().map(|registered| registered.spec.as_ref()).collect();
        specs.sort_unstable_by_key(|spec| spec.task_type);
        specs
    }

    /// Refuses a worker without handlers, without an expected one, or without the state that one needs.
    pub(crate) fn check(&self, expected: &[String], state: &State) -> Result {
        let invalid = |what: String| Err(Error::Invalid { what });
        if self.0.is_empty() {
            return invalid(
                "this worker has no task handler. Mark one with #[task_handler(\"type\")]; a crate that holds handlers \
                 must be named in the program, for example by `use my_agents as _;`"
                    .into(),
            );
        }
        for task_type in expected {
            if !self.0.contains_key(task_type.as_str()) {
                let known: Vec<&str> = self.specs().iter().map(|spec| spec.task_type).collect();
                return invalid(format!(
                    "no handler for the expected task type `{task_type}`; there are {}. A crate that holds handlers must \
                     be named in the program, for example by `use my_agents as _;`",
                    known.join(", ")
                ));
            }
        }
        for spec in self.specs() {
            if let Some((_, name)) = spec.needs.0.iter().find(|(id, _)| !state.has(*id)) {
                return invalid(format!(
                    "the handler of `{}` takes Data<{name}>, which this worker does not have; add `.data(..)` with one",
                    spec.task_type
                ));
            }
        }
        Ok(())
    }
}
