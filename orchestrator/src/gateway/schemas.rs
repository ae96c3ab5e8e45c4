//! Schemas of values whose JSON is written by hand: ids and spans of time are texts.

use utoipa::openapi::schema::{KnownFormat, ObjectBuilder, OneOfBuilder, SchemaFormat, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::{ApprovalId, EventCursor, OnViolation, SPAN_MAX, Span, TaskId};

fn text(pattern: &str, example: &str) -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).examples([example])
}

impl PartialSchema for TaskId {
    fn schema() -> RefOr<Schema> {
        text(
            "^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{9}[048c]00$",
            "019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000",
        )
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
        .description(Some("The name of a task, for all time: a UUID of version 7, so that ids sort by creation."))
        .into()
    }
}

impl ToSchema for TaskId {}

impl PartialSchema for ApprovalId {
    fn schema() -> RefOr<Schema> {
        text(
            "^approval_[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(_[1-9][0-9]{0,4})?$",
            "approval_019aa1b2-c3d4-7e5f-8a6b-7c8d9e0f1000",
        )
        .description(Some(
            "The name of an approval: `approval_<task id>` for the gate before a task, with `_1`, `_2` … behind it for the \
             questions of its handler.",
        ))
        .into()
    }
}

impl ToSchema for ApprovalId {}

impl PartialSchema for EventCursor {
    fn schema() -> RefOr<Schema> {
        text("^[0-9]+-[0-9]+\\.[0-9]+$", "1790000000000-0.0")
            .description(Some("A place in the stream of events."))
            .into()
    }
}

impl ToSchema for EventCursor {}

impl PartialSchema for OnViolation {
    fn schema() -> RefOr<Schema> {
        text("^(announce|raise|cancel|escalate:.+)$", "raise")
            .description(Some("What happens when a promise is broken, beside the event `sla.violation`."))
            .into()
    }
}

impl ToSchema for OnViolation {}

/// The name of a task type or a queue, for descriptions.
pub(super) struct Name;

impl PartialSchema for Name {
    fn schema() -> RefOr<Schema> {
        text("^[a-z0-9_.-]{1,64}$", "dev_agent")
            .description(Some("A name of 1 to 64 of the characters `a-z`, `0-9`, `_`, `.` and `-`."))
            .into()
    }
}

impl ToSchema for Name {}

/// A span of time as a text, for the description of what takes nothing else.
pub(super) struct SpanText;

impl PartialSchema for SpanText {
    fn schema() -> RefOr<Schema> {
        let unit = "(nanos|nsec|ns|usec|us|µs|millis|msec|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|hrs?|h|days?|d\
                    |weeks?|wks?|w|months?|M|years?|yrs?|y)";
        text(&format!("^(0|\\s*([0-9][0-9\\s]*(\\.[0-9]+)?\\s*{unit}\\s*)+)$"), "1h 30m")
            .description(Some("A span of time: numbers, each with its unit; 366 days at most."))
            .into()
    }
}

impl ToSchema for SpanText {}

/// A backoff as a text.
pub(super) struct BackoffText;

impl PartialSchema for BackoffText {
    fn schema() -> RefOr<Schema> {
        let delay = r"[0-9]+(ms|s|m|h|d)";
        text(&format!("^(fixed\\({delay}\\)|exp\\({delay}, ?{delay}\\))$"), "exp(2s, 10m)")
            .description(Some("The wait between attempts: `fixed(DELAY)` or `exp(FIRST, LONGEST)`, 1ms to 30d."))
            .into()
    }
}

impl ToSchema for BackoffText {}

impl PartialSchema for Span {
    fn schema() -> RefOr<Schema> {
        let seconds = ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0)).maximum(Some(SPAN_MAX.as_secs()));
        OneOfBuilder::new()
            .item(SpanText::schema())
            .item(seconds.examples([90]))
            .description(Some("A span of time: a text with units, or a number of seconds; 366 days at most."))
            .into()
    }
}

impl ToSchema for Span {}
