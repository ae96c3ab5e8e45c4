//! What a handler may ask for beside its payload.

use std::any::{Any, TypeId, type_name};
use std::collections::HashMap;
use std::ops::Deref;
use std::sync::Arc;

use crate::event::{EventContext, FromEvent};
use crate::{TaskContext, TaskError};

/// A type that a handler can take as a parameter after its payload.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a parameter of a task handler",
    label = "only the first parameter is the payload; the others are taken from the context",
    note = "a handler takes its payload first, then any of: `TaskContext`, `Data<T>`, or a type that implements `FromContext`"
)]
pub trait FromContext: Sized {
    /// Takes it from the context of one attempt.
    ///
    /// # Errors
    /// What is missing. The attempt fails with it.
    fn from_context(ctx: &TaskContext) -> Result<Self, TaskError>;

    /// Adds the shared state that it needs, so that a worker without it refuses to start.
    fn needs(_needs: &mut Needs) {}
}

impl FromContext for TaskContext {
    fn from_context(ctx: &TaskContext) -> Result<Self, TaskError> {
        Ok(ctx.clone())
    }
}

/// Types of shared state that a handler needs.
#[derive(Clone, Debug, Default)]
pub struct Needs(pub(crate) Vec<(TypeId, &'static str)>);

impl Needs {
    /// Needs `Data<T>`.
    pub fn data<T: Send + Sync + 'static>(&mut self) {
        self.0.push((TypeId::of::<T>(), type_name::<T>()));
    }
}

/// State shared by all handlers of a worker: given once by `Worker::builder(..).data(value)`, taken as `Data<T>`.
#[derive(Debug)]
pub struct Data<T>(Arc<T>);

impl<T> Clone for Data<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Data<T> {
    /// Wraps a value, for calling a handler directly in a test.
    pub fn new(value: T) -> Self {
        Self(Arc::new(value))
    }
}

impl<T> Deref for Data<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Send + Sync + 'static> FromContext for Data<T> {
    fn from_context(ctx: &TaskContext) -> Result<Self, TaskError> {
        ctx.state().data()
    }

    fn needs(needs: &mut Needs) {
        needs.data::<T>();
    }
}

impl<T: Send + Sync + 'static> FromEvent for Data<T> {
    fn from_event(ctx: &EventContext) -> Result<Self, TaskError> {
        ctx.state().data()
    }

    fn needs(needs: &mut Needs) {
        needs.data::<T>();
    }
}

/// One value per type.
#[derive(Clone, Debug, Default)]
pub(crate) struct State(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl State {
    /// Adds a value; false when one of that type is there already.
    pub(crate) fn put<T: Send + Sync + 'static>(&mut self, value: T) -> bool {
        self.0.insert(TypeId::of::<T>(), Arc::new(value)).is_none()
    }

    pub(crate) fn has(&self, id: TypeId) -> bool {
        self.0.contains_key(&id)
    }

    fn data<T: Send + Sync + 'static>(&self) -> Result<Data<T>, TaskError> {
        self.get::<T>().map(Data).ok_or_else(|| {
            TaskError::fatal(format!("this worker has no `{}`; give it by `.data(..)`", type_name::<T>()))
        })
    }

    pub(crate) fn get<T: Send + Sync + 'static>(&self) -> Option<Arc<T>> {
        Arc::clone(self.0.get(&TypeId::of::<T>())?).downcast().ok()
    }
}
