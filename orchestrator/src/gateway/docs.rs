//! The document of this interface, for programs and, as a page, for people. Everything comes from here: nothing is loaded
//! from elsewhere.

use std::sync::{Arc, LazyLock};

use axum::body::{Body, Bytes};
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use sha2::{Digest, Sha256};

use super::Problem;
use super::openapi::document;

/// Files of its own, requests to this gateway, and pictures that its style sheet brings: nothing else is let in or out.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

const PAGE: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Orchestrator</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css"><link rel="stylesheet" href="docs/index.css"></head>
<body><div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></body></html>
"#;

const START: &str = r##"SwaggerUIBundle({
  dom_id: "#swagger-ui", url: "openapi.json", deepLinking: true, displayRequestDuration: true, tryItOutEnabled: true,
  validatorUrl: null, presets: [SwaggerUIBundle.presets.apis],
});
"##;

/// The files of the page that come with Swagger UI.
const VENDORED: [&str; 4] = ["favicon-32x32.png", "index.css", "swagger-ui-bundle.js", "swagger-ui.css"];

/// Something that does not change while this program runs.
struct Kept {
    name: &'static str,
    kind: HeaderValue,
    bytes: Bytes,
    tag: HeaderValue,
}

impl Kept {
    fn new(name: &'static str, kind: &'static str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest: String = Sha256::digest(&bytes)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let tag = HeaderValue::try_from(format!("\"{digest}\"")).unwrap_or(HeaderValue::from_static("\"\""));
        Self { name, kind: HeaderValue::from_static(kind), bytes, tag }
    }

    /// The whole of it, or that the caller has it already.
    fn answer(&self, headers: &HeaderMap) -> Response {
        let has = |given: &HeaderValue| given.as_bytes().split(|b| *b == b',').any(|tag| self.tag == tag.trim_ascii());
        let had = headers.get_all(IF_NONE_MATCH).iter().any(has);
        let mut response = Response::new(if had { Body::empty() } else { self.bytes.clone().into() });
        *response.status_mut() = if had { StatusCode::NOT_MODIFIED } else { StatusCode::OK };
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, self.kind.clone());
        headers.insert(ETAG, self.tag.clone());
        // It is asked for again before it is used again.
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(CONTENT_SECURITY_POLICY, POLICY);
        response
    }
}

static DOCUMENT: LazyLock<Kept> = LazyLock::new(|| Kept::new("openapi.json", "application/json", document()));
static HTML: LazyLock<Kept> = LazyLock::new(|| Kept::new("docs", "text/html; charset=utf-8", PAGE));
static FILES: LazyLock<Vec<Kept>> = LazyLock::new(|| {
    let settings = Arc::default();
    let vendored = VENDORED.into_iter().filter_map(|name| {
        let file = utoipa_swagger_ui::serve(name, Arc::clone(&settings)).ok().flatten()?;
        let kind = match name.rsplit('.').next() {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            _ => "image/png",
        };
        Some(Kept::new(name, kind, file.bytes.into_owned()))
    });
    vendored.chain([Kept::new("start.js", "text/javascript; charset=utf-8", START)]).collect()
});

/// Read this document
///
/// OpenAPI 3.1, for client generators and for programs that look around. `orchestrator openapi` prints the same.
#[utoipa::path(
    get, path = "/openapi.json", tag = "monitoring", operation_id = "read_document",
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of what you have")),
    responses(
        (status = 200, description = "The document", content_type = "application/json", body = Object,
         headers(("ETag" = String, description = "Names this version"))),
        (status = 304, description = "You have it already"),
    ),
)]
pub(super) async fn openapi(headers: HeaderMap) -> Response {
    DOCUMENT.answer(&headers)
}

/// Read the documentation
///
/// A page that shows this document and lets you try each operation.
#[utoipa::path(
    get, path = "/docs", tag = "monitoring", operation_id = "read_docs",
    params(("If-None-Match" = Option<String>, Header, description = "The `ETag` of what you have")),
    responses(
        (status = 200, description = "The page", content_type = "text/html", body = String,
         headers(("ETag" = String, description = "Names this version"))),
        (status = 304, description = "You have it already"),
    ),
)]
pub(super) async fn page(headers: HeaderMap) -> Response {
    HTML.answer(&headers)
}

/// Read a file of the documentation
///
/// What the page at `/docs` is made of.
#[utoipa::path(
    get, path = "/docs/{*file}", tag = "monitoring", operation_id = "read_docs_file",
    params(
        ("file" = String, Path, description = "One of the files that the page names", example = "start.js"),
        ("If-None-Match" = Option<String>, Header, description = "The `ETag` of what you have"),
    ),
    responses(
        (status = 200, description = "The file", headers(("ETag" = String, description = "Names this version")), content(
            (String = "text/javascript"), (String = "text/css"), (Vec<u8> = "image/png"),
        )),
        (status = 304, description = "You have it already"),
    ),
)]
pub(super) async fn file(headers: HeaderMap, name: Result<Path<String>, PathRejection>) -> Result<Response, Problem> {
    let file = name.ok().and_then(|Path(name)| FILES.iter().find(|file| file.name == name));
    let file = file.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "the page at /docs has no such file"))?;
    Ok(file.answer(&headers))
}
