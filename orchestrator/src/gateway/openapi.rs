//! The document of this interface: OpenAPI 3.1, made from what the handlers say of themselves and what the table of routes
//! says of who may call them. A handler names the answers that are its own; those that follow from a rule are added here.

use std::collections::BTreeMap;

use std::sync::Arc;

use utoipa::ToSchema;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, Parameter, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, KnownFormat, ObjectBuilder, SchemaFormat, SchemaType, Type};
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa::openapi::tag::{Tag, TagBuilder};
use utoipa::openapi::{
    ComponentsBuilder, Content, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathsBuilder, Ref, RefOr,
    Response, ResponseBuilder, Schema,
};

use super::Role;
use super::examples::examples;
use super::rate_limits::FREE;
use super::routes::{Access, table};

const ABOUT: &str = "\
Tasks for AI agents, kept in Redis: submit them, watch them, decide on those that wait for a person.

**In a minute.** `POST /tasks` stores a task; a worker of its queue takes it, and `GET /tasks/{id}` tells how it stands. \
A task that a rule holds back waits as `blocked` until somebody says yes at `POST /approvals/{approval_id}/approve`. \
`GET /events` tells everything as it happens.

**Who you are.** Send `X-API-Key`, or `Authorization: Bearer` with a token; either alone suffices. A `user` reads, an \
`agent` also creates tasks, tells events and decides, an `admin` may do everything. Each operation names the role that it \
needs.

**When something is wrong**, the answer is a `Problem`: `detail` says what was wrong and what is right. Every answer has \
`X-Request-Id`, under which the log knows it. All instants are UTC in RFC 3339.";

const TAGS: [(&str, &str); 8] = [
    ("tasks", "Work for agents: from the request to the result"),
    ("dead letters", "Tasks that have failed: what they have in common, and what is done with them"),
    ("schedules", "Tasks that are made again and again, as a clock says"),
    ("approvals", "Tasks that wait for a person, and the decisions on them"),
    ("events", "What happened: telling it, and following it as it is told"),
    ("service levels", "Promises about time: how they were kept, and which are at risk"),
    ("monitoring", "Whether the service is well, and how much it has to do"),
    ("links", "Signed links by which one approver decides once, in a browser"),
];

/// Answers that follow from a rule: status, name, and when they come.
const COMMON: [(&str, &str, &str); 10] = [
    ("400", "NotJson", "The body is not sound JSON, or broke off"),
    ("401", "Unauthorized", "There is no credential, it is not known or no longer good, or there are two"),
    ("403", "Forbidden", "The caller's role does not suffice"),
    ("404", "NotFound", "There is nothing of this id"),
    ("408", "BodyTimeout", "The body did not arrive in time"),
    ("413", "BodyTooLarge", "The body is larger than this gateway takes, 1 MiB by default"),
    ("415", "NotTheType", "The body is not declared as what is taken here, or is encoded"),
    ("422", "Unfit", "A value is not what it has to be; the text names it and says what is right"),
    ("429", "TooMany", "Too many requests; `Retry-After` tells when to come again"),
    ("503", "Unavailable", "Redis does not serve now, or the gateway is stopping or too busy"),
];

/// Headers of answers: name, when they come, whether they are numbers.
const HEADERS: [(&str, &str, bool); 6] = [
    ("X-Request-Id", "The request's own id if it was a sound one, else a new one; the log knows it", false),
    ("X-RateLimit-Limit", "Requests allowed in the window", true),
    ("X-RateLimit-Remaining", "Requests left in the window", true),
    ("X-RateLimit-Reset", "When the window is over, in Unix seconds", true),
    ("Retry-After", "Seconds after which to come again", true),
    ("WWW-Authenticate", "How to say who you are", false),
];

/// Members of answers that are left out when they would say nothing. All others are always there.
const SOMETIMES: [(&str, &[&str]); 9] = [
    ("Task", &["quiet"]),
    ("OutputChunk", &["text", "base64", "value"]),
    ("Sla", &["pause_for_people", "on_violation", "hours"]),
    ("DeadLetter", &["worker"]),
    ("Event", &["key", "traceparent"]),
    ("TaskCreated", &["approval_id", "existing"]),
    ("ApprovalAnswer", &["votes", "quorum"]),
    (
        "CloudEvent",
        &[
            "subject",
            "time",
            "datacontenttype",
            "dataschema",
            "traceparent",
            "traceid",
            "taskid",
            "key",
            "priority",
            "cursor",
            "data",
        ],
    ),
    ("LinkForm", &["note"]),
];

/// What every error says, after RFC 9457. Some errors have members of their own beside these: `known_types`, `redis` …
#[derive(ToSchema)]
#[schema(as = Problem, example = json!({
    "detail": "type: `bugfx` is no known task type. Did you mean `bugfix`?",
    "type": "about:blank",
    "title": "Bad Request",
    "status": 400,
    "instance": "/tasks",
}))]
#[allow(dead_code, reason = "it is only described; `Problem::render` writes it")]
struct ProblemBody {
    /// What was wrong, and what is right.
    #[schema(max_length = 1000)]
    detail: String,
    /// Always `about:blank`: the status says what kind of problem it is.
    r#type: String,
    /// The status in words.
    title: String,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// The path that was asked for.
    instance: String,
}

/// The document of this interface as JSON: OpenAPI 3.1. Every gateway of this version has the same.
#[must_use]
pub fn document() -> String {
    let (_, document) = table(&Arc::default(), Role::Agent, None).split();
    // It is made of texts and numbers only: there is nothing in it that JSON cannot say.
    document.to_pretty_json().unwrap_or_default()
}

/// A document without operations: what it is about, who may call, and the answers that many operations have.
pub(super) fn empty() -> OpenApi {
    let license = LicenseBuilder::new().name("MIT").identifier(Some("MIT"));
    let info = InfoBuilder::new()
        .title("Orchestrator")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license.build()));
    let token = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").description(Some(
        "A token signed with HS256: `sub`, `role` and `exp`. `orchestrator token create` makes one.",
    ));
    let key = ApiKeyValue::with_description("X-API-Key", "A key that the gateway was started with.");
    let mut components = ComponentsBuilder::new()
        .schema_from::<ProblemBody>()
        .security_scheme("token", SecurityScheme::Http(token.build()))
        .security_scheme("key", SecurityScheme::ApiKey(ApiKey::Header(key)))
        .build();
    components.headers = HEADERS.iter().map(|row| (row.0.to_owned(), header(*row).into())).collect();
    for (status, name, when) in COMMON {
        let mut answer = Response::new(when);
        fill(&mut answer, status, true);
        components.responses.insert(name.into(), answer.into());
    }
    OpenApiBuilder::new()
        .info(info.build())
        .tags(Some(TAGS.map(tag)))
        .paths(PathsBuilder::new().build())
        .components(Some(components))
        .build()
}

fn tag((name, about): (&str, &str)) -> Tag {
    TagBuilder::new().name(name).description(Some(about)).build()
}

fn header((_, about, is_number): (&str, &str, bool)) -> Header {
    let schema = match is_number {
        true => ObjectBuilder::new()
            .schema_type(Type::Integer)
            .format(Some(SchemaFormat::KnownFormat(KnownFormat::Int64)))
            .minimum(Some(0)),
        false => ObjectBuilder::new().schema_type(Type::String),
    };
    HeaderBuilder::new().schema(Some(schema)).description(Some(about)).build()
}

/// Adds to an operation who may call it, and the answers that follow from that, from its path and from what it takes.
pub(super) fn complete(operation: &mut Operation, path: &str, access: Access) {
    let is_limited = !FREE.contains(&path);
    let role = match access {
        Access::Anybody | Access::Link => None,
        Access::Role(role) => Some(format!("Needs the role `{role}`, or one above it.")),
        Access::Approver => Some("Needs the role `agent`, or `admin` where the gateway says so.".into()),
    };
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(Parameter { schema: Some(schema), .. }) = parameter {
            present(schema);
        }
    }
    operation.security = Some(match role {
        None => Vec::new(),
        Some(_) => ["token", "key"].map(|name| SecurityRequirement::new::<_, [&str; 0], _>(name, [])).into(),
    });
    let has_query = operation.parameters.iter().flatten().any(|parameter| match parameter {
        RefOr::T(parameter) => parameter.parameter_in == ParameterIn::Query,
        RefOr::Ref(_) => false,
    });
    let (has_role, has_body) = (role.is_some(), operation.request_body.is_some());
    if let Some(role) = role {
        let about = operation.description.take().filter(|about| !about.is_empty());
        operation.description = Some(about.map(|about| format!("{about}\n\n{role}")).unwrap_or(role));
    }
    let answers = &mut operation.responses.responses;
    for (status, answer) in answers.iter_mut() {
        if let RefOr::T(answer) = answer {
            fill(answer, status, is_limited);
        }
    }
    for (status, name, when) in COMMON {
        let comes = match status {
            "401" | "403" => has_role,
            "404" => path.contains('{'),
            "422" => has_body || has_query,
            "429" => is_limited,
            "503" => true,
            _ => has_body,
        };
        if !comes || answers.contains_key(status) {
            continue;
        }
        let answer = match access {
            // These are for people: a page, unless the edge itself answers.
            Access::Link => {
                let page = Content::new(Some(Schema::from(ObjectBuilder::new().schema_type(Type::String).build())));
                let mut answer = ResponseBuilder::new().description(when).content("text/html", page).build();
                answer.content.insert("application/json".into(), problem().into());
                fill(&mut answer, status, is_limited);
                answer.into()
            }
            _ if is_limited => RefOr::Ref(Ref::from_response_name(name)),
            _ => {
                let mut answer = Response::new(when);
                fill(&mut answer, status, is_limited);
                answer.into()
            }
        };
        answers.insert(status.into(), answer);
    }
}

/// What may be left out is not null where it is sent: headers and queries have no null.
fn present(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            if let SchemaType::Array(types) = &object.schema_type
                && let Some(one) = types.iter().find(|one| **one != Type::Null)
            {
                object.schema_type = SchemaType::Type(one.clone());
            }
        }
        RefOr::T(Schema::OneOf(choice)) => {
            let is_null = |item: &RefOr<Schema>| match item {
                RefOr::T(Schema::Object(object)) => object.schema_type == SchemaType::Type(Type::Null),
                _ => false,
            };
            choice.items.retain(|item| !is_null(item));
            if let [one] = &choice.items[..] {
                *schema = one.clone();
            }
        }
        _ => {}
    }
}

/// Adds to an answer the headers that it has, and to an error its body.
fn fill(answer: &mut Response, status: &str, is_limited: bool) {
    let limits = HEADERS.iter().map(|row| row.0).filter(|name| is_limited && name.starts_with("X-RateLimit"));
    let own = match status {
        "401" => Some("WWW-Authenticate"),
        "429" | "503" => Some("Retry-After"),
        _ => None,
    };
    for name in ["X-Request-Id"].into_iter().chain(limits).chain(own) {
        answer.headers.insert(name.into(), RefOr::Ref(Ref::new(format!("#/components/headers/{name}"))));
    }
    if status >= "400" && answer.content.is_empty() {
        answer.content.insert("application/json".into(), problem().into());
    }
}

fn problem() -> Content {
    Content::new(Some(Ref::from_schema_name("Problem")))
}

/// What only the whole document knows: of the objects that are told, every member is there, if only as null. Objects that
/// are sent take no other members than theirs, which tells them apart.
pub(super) fn whole(mut document: OpenApi) -> OpenApi {
    // A path here has no sign for "and all below it".
    let paths = std::mem::take(&mut document.paths.paths);
    document.paths.paths = paths.into_iter().map(|(path, item)| (path.replace("{*", "{"), item)).collect();
    let mut examples = BTreeMap::from(examples());
    let schemas = document.components.iter_mut().flat_map(|components| &mut components.schemas);
    for (name, schema) in schemas {
        let RefOr::T(Schema::Object(object)) = schema else { continue };
        if let Some(example) = examples.remove(name.as_str()) {
            object.example = Some(example);
        }
        if matches!(object.additional_properties.as_deref(), Some(AdditionalProperties::FreeForm(false))) {
            continue;
        }
        let sometimes = SOMETIMES.iter().find(|(of, _)| of == name).map_or(&[][..], |(_, members)| members);
        object.required =
            object.properties.keys().filter(|member| !sometimes.contains(&member.as_str())).cloned().collect();
    }
    document
}
