//! Asking people from within a handler.

use std::error::Error as StdError;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use futures::future::BoxFuture;
use orchestrator::{ApprovalStatus, Asking, Decision, Error, Noted, Terms, Wait, hash_bytes};
use serde::Serialize;
use serde::de::{self, DeserializeOwned, Deserializer, Visitor};

use crate::durable::{Leaving, Moment};
use crate::{Span, TaskContext};

/// Something that people have approved, exactly as it was shown to them.
///
/// There is no way to make one but to ask: a function that takes it cannot be called without a decision.
#[derive(Clone, Debug)]
pub struct Approved<T, F = ()> {
    value: T,
    /// What the approver has filled in.
    pub form: F,
    by: String,
    note: String,
}

impl<T, F> Approved<T, F> {
    /// Who made the last vote that was needed.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }

    /// What they wrote.
    #[must_use]
    pub fn note(&self) -> &str {
        &self.note
    }

    /// What was approved.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }
}

impl<T, F> Deref for Approved<T, F> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// People said no, or nobody decided in time. With `?` it ends the task as cancelled, for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    by: String,
    reason: String,
    expired: bool,
}

impl Rejected {
    /// Who said no; empty when nobody decided.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Whether nobody decided in time.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expired
    }

    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self { by: "alice".into(), reason: "no".into(), expired: false }
    }

    /// The word for the task's end.
    pub(crate) fn word(&self) -> &'static str {
        if self.expired { "timeout" } else { "rejected" }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.expired, self.reason.as_str()) {
            (true, _) => f.write_str("nobody decided in time"),
            (false, "") => write!(f, "rejected by {}", self.by),
            (false, reason) => write!(f, "rejected by {}: {reason}", self.by),
        }
    }
}

impl StdError for Rejected {}

/// A question to people; see [`TaskContext::approve`].
#[must_use = "nobody is asked until it is awaited"]
pub struct Approve<'c, T, F = ()> {
    ctx: &'c TaskContext,
    value: T,
    name: Option<&'c str>,
    question: String,
    terms: Terms,
    fault: Option<Error>,
    form: PhantomData<fn() -> F>,
}

impl<'c, T, F> Approve<'c, T, F> {
    /// Lets this name (`alice`) or role (`role:sre`) decide; several calls add up. Everybody with the right unless called.
    pub fn by(mut self, who: &str) -> Self {
        self.terms.by.push(who.into());
        self
    }

    /// How many must say yes; 1 unless called.
    pub fn quorum(mut self, votes: u8) -> Self {
        self.terms.quorum = votes;
        self
    }

    /// What is asked, in words.
    pub fn question(mut self, question: &str) -> Self {
        self.question = question.into();
        self
    }

    /// Its name in the task's journal, where the order of questions may change.
    pub fn named(mut self, name: &'c str) -> Self {
        self.name = Some(name);
        self
    }

    /// Time until it is closed without a decision; the namespace's default (24 hours) unless called.
    pub fn expires(mut self, after: impl Into<Span>) -> Self {
        self.terms.expires_ms = self.millis(&after.into());
        self
    }

    /// Time between two reminders (the event `approval.reminded`).
    pub fn remind(mut self, every: impl Into<Span>) -> Self {
        self.terms.remind_ms = self.millis(&every.into());
        self
    }

    /// After this time `who` may decide too.
    pub fn escalate(mut self, after: impl Into<Span>, who: &str) -> Self {
        self.terms.escalate = self.millis(&after.into()).map(|after| (after, who.into()));
        self
    }

    /// Has the approver fill in a form: the fields of the struct `G`.
    pub fn form<G: DeserializeOwned>(self) -> Approve<'c, T, G> {
        let Self { ctx, value, name, question, terms, fault, form: _ } = self;
        Approve { ctx, value, name, question, terms, fault, form: PhantomData }
    }

    fn millis(&mut self, span: &Span) -> Option<u64> {
        match span.duration() {
            Ok(span) => Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
            Err(error) => {
                self.fault.get_or_insert(error);
                None
            }
        }
    }
}

impl<'c, T, F> IntoFuture for Approve<'c, T, F>
where
    T: Serialize + Send + Sync + 'c,
    F: DeserializeOwned + Send + 'c,
{
    type Output = Result<Approved<T, F>, Rejected>;
    type IntoFuture = BoxFuture<'c, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let Self { ctx, value, name, mut question, terms, fault, .. } = self;
            let durable = ctx.durable();
            if let Some(error) = fault {
                return durable.fatal("approval", format!("ctx.approve: {error}")).await;
            }
            let call = durable.begin("approval", name.into(), None).await;
            let shown = match serde_json::to_value(&value) {
                Ok(shown) => shown,
                Err(error) => {
                    return durable.fatal("approval", format!("what is shown cannot be written: {error}")).await;
                }
            };
            let asked = Asking::about(ctx.assignment(), shown.clone(), &question, fields::<F>(), terms.clone());
            let mut asking = match asked {
                Ok(asking) => asking,
                Err(error) => return durable.fatal("approval", error).await,
            };
            if fields::<F>().is_empty()
                && let Err(error) = filled_in::<F>(&[])
            {
                let what = "a form is a struct with named fields, without `flatten`: nobody could fill in this one";
                return durable.fatal("approval", format!("{what} ({error})")).await;
            }
            let now = hash_bytes(asking.hash());
            if let Some(Noted::Asked { status, hash, decision: Decision { who, why, form }, .. }) = &call.noted {
                match status {
                    _ if *hash != now => {
                        tracing::warn!("what was shown has changed since: it is asked again");
                    }
                    ApprovalStatus::Approved => match filled_in::<F>(form) {
                        Ok(form) => {
                            call.tell(Moment::Returned);
                            return Ok(Approved { value, form, by: who.clone(), note: why.clone() });
                        }
                        Err(error) => {
                            question = format!("{question} (the form did not fit: {error})").trim().to_owned();
                            let end = (0..=question.len().min(1000)).rev().find(|at| question.is_char_boundary(*at));
                            question.truncate(end.unwrap_or(0));
                            match Asking::about(ctx.assignment(), shown, &question, fields::<F>(), terms) {
                                Ok(again) => asking = again,
                                Err(error) => return durable.fatal("approval", error).await,
                            }
                        }
                    },
                    ApprovalStatus::Rejected => {
                        return Err(Rejected { by: who.clone(), reason: why.clone(), expired: false });
                    }
                    ApprovalStatus::Timeout => {
                        return Err(Rejected { by: String::new(), reason: why.clone(), expired: true });
                    }
                    _ => {}
                }
            }
            let noted =
                Noted::Asked { number: 0, status: ApprovalStatus::Pending, hash: now, decision: Decision::default() };
            let (name, entry) = (call.name.clone(), call.entry(noted));
            durable.leave(Leaving::Park(Box::new(Wait::Person { name, entry, asking }))).await
        })
    }
}

impl TaskContext {
    /// Asks people about `value` and waits for their decision without holding anything: the handler is left here and
    /// entered anew when they have decided. The decision is bound to `value` as it was shown; when the handler comes back
    /// with something else, it is asked again.
    ///
    /// ```
    /// use orchestrator_worker::{Approved, TaskContext, TaskResult, payload, task_handler};
    ///
    /// #[payload]
    /// struct Plan { service: String, replicas: u32 }
    ///
    /// // Cannot be called without a decision.
    /// async fn apply(plan: &Approved<Plan>) -> std::io::Result<String> {
    ///     Ok(format!("{} × {}", plan.service, plan.replicas))
    /// }
    ///
    /// #[task_handler("scale")]
    /// async fn scale(plan: Plan, ctx: TaskContext) -> TaskResult<String> {
    ///     let plan = ctx.approve(plan).by("role:sre").quorum(2).remind("30m").expires("4h").await?;
    ///     ctx.step("apply", || apply(&plan)).await
    /// }
    /// ```
    pub fn approve<T: Serialize>(&self, value: T) -> Approve<'_, T> {
        let (question, terms) = (String::new(), Terms::default());
        Approve { ctx: self, value, name: None, question, terms, fault: None, form: PhantomData }
    }
}

/// The form as it was filled in; none counts as the unit.
fn filled_in<F: DeserializeOwned>(bytes: &[u8]) -> Result<F, Error> {
    orchestrator::decode_value(if bytes.is_empty() { &[0xc0] } else { bytes })
}

/// The names of the fields of a struct, as its `Deserialize` asks for them; none for anything else.
fn fields<F: DeserializeOwned>() -> Vec<String> {
    struct Probe<'p>(&'p mut Vec<String>);

    impl<'de> Deserializer<'de> for Probe<'_> {
        type Error = de::value::Error;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("nothing is here"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            _: V,
        ) -> Result<V::Value, Self::Error> {
            self.0.extend(fields.iter().map(|field| (*field).to_owned()));
            Err(de::Error::custom("nothing is here"))
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }

    let mut names = Vec::new();
    let _ = F::deserialize(Probe(&mut names));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forms_fields_are_those_of_its_struct() {
        #[derive(serde::Deserialize)]
        #[allow(dead_code)]
        struct Window {
            start: String,
            #[serde(rename = "for")]
            length: Option<u32>,
        }
        assert_eq!(fields::<Window>(), ["start", "for"]);
        assert!(fields::<()>().is_empty() && fields::<u32>().is_empty());
        assert!(filled_in::<()>(&[]).is_ok() && filled_in::<Window>(&[]).is_err());
    }
}
