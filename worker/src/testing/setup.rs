//! The handlers and the shared state of a test.

use std::sync::Arc;

use crate::extract::State;
use crate::handler::TaskHandler;
use crate::registry::{Registered, Registry};

/// Handlers and shared state. All handlers that the linker finds, until one is registered by hand: then those alone.
#[derive(Clone, Default)]
pub(super) struct Setup {
    registry: Registry,
    by_hand: bool,
    state: State,
}

impl Setup {
    pub(super) fn data<T: Send + Sync + 'static>(&mut self, value: T) {
        assert!(self.state.put(value), "two values of type {} were given by `.data`", std::any::type_name::<T>());
    }

    pub(super) fn register(&mut self, handler: impl TaskHandler) {
        self.by_hand = true;
        if let Err(error) = self.registry.add(Box::new(handler), "a call of `register` in a test".into()) {
            panic!("{error}");
        }
    }

    /// All handlers.
    pub(super) fn registry(&self) -> Registry {
        let mut registry = self.registry.clone();
        if !self.by_hand
            && let Err(error) = registry.discover()
        {
            panic!("{error}; or register the handlers of this test by `.register::<..>()`");
        }
        registry
    }

    pub(super) fn state(&self) -> Arc<State> {
        Arc::new(self.state.clone())
    }

    /// Fails the test when the handler takes what was not given.
    pub(super) fn check(&self, handler: &Registered) {
        if let Some((_, name)) = handler.spec.needs.0.iter().find(|(id, _)| !self.state.has(*id)) {
            panic!("the handler of `{}` takes Data<{name}>; add `.data(..)` with one", handler.spec.task_type);
        }
    }
}
