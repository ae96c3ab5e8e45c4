//! Who is asking, and whether he may.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::Response;

use super::keys::ApiKeys;
use super::standing::Standing;
use super::stored_keys::StoredKeys;
use super::{Problem, Role, Tokens, body};

/// Somebody whose credential was found good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The name of his API key, or his token's `sub`.
    pub(super) name: String,
    /// What he may do.
    pub(super) role: Role,
    /// The groups that his token tells: roles of his as an approver.
    pub(super) groups: Vec<String>,
    /// Whose tasks he sees and changes; everybody's without one.
    pub(super) tenant: Option<String>,
}

const ASK: &str = r#"Bearer realm="orchestrator""#;
pub(super) const BAD: &str = r#"Bearer realm="orchestrator", error="invalid_token""#;

/// Judges credentials.
#[derive(Clone, Debug, Default)]
pub(super) struct Judge {
    pub(super) keys: ApiKeys,
    pub(super) tokens: Option<Tokens>,
    /// The keys in Redis.
    pub(super) stored: Option<StoredKeys>,
}

impl Judge {
    /// The caller of a request, by its one credential, and how long that is good.
    async fn caller(&self, headers: &HeaderMap) -> Result<(Caller, Standing), Problem> {
        let mut keys = headers.get_all("x-api-key").iter();
        let mut authorizations = headers.get_all(AUTHORIZATION).iter();
        let given = (keys.next(), authorizations.next());
        if keys.next().is_some() || authorizations.next().is_some() {
            return Err(Problem::bad_credential("send one credential, not several"));
        }
        match given {
            (None, None) => Err(Problem::unauthorized(
                "this route needs a credential: the header X-API-Key, or Authorization: Bearer with a token",
                ASK,
            )),
            (Some(_), Some(_)) => {
                Err(Problem::bad_credential("send X-API-Key or Authorization, not both: either alone suffices"))
            }
            (Some(key), None) => {
                if let Some(caller) = self.keys.caller(key.as_bytes()) {
                    return Ok((caller, Standing::Endless));
                }
                let stored = match &self.stored {
                    Some(stored) => stored.caller(key.as_bytes()).await?,
                    None => None,
                };
                stored.ok_or_else(|| Problem::bad_credential("this API key is not known"))
            }
            (None, Some(authorization)) => {
                let token = authorization
                    .to_str()
                    .ok()
                    .and_then(|text| text.split_once(' '))
                    .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
                    .map(|(_, token)| token.trim())
                    .ok_or_else(|| Problem::bad_credential("write the header as Authorization: Bearer TOKEN"))?;
                let tokens = self.tokens.as_ref().ok_or_else(|| {
                    Problem::bad_credential("tokens are not accepted here, no secret is set for them; use X-API-Key")
                })?;
                tokens.caller(token).await.map_err(Problem::bad_credential)
            }
        }
    }
}

/// Lets a request through whose caller has at least this role. The body is read by nobody before that.
pub(super) async fn require(
    State((judge, role)): State<(Arc<Judge>, Role)>,
    mut request: Request,
    next: Next,
) -> Response {
    use axum::response::IntoResponse;

    let judged = judge.caller(request.headers()).await.and_then(|(caller, standing)| {
        if caller.role >= role {
            return Ok((caller, standing));
        }
        let said = format!("this route needs the role {role}; {} has the role {}", caller.name, caller.role);
        Err(Problem::new(StatusCode::FORBIDDEN, said))
    });
    match judged {
        Ok((caller, standing)) => {
            request.extensions_mut().insert(caller.clone());
            request.extensions_mut().insert(standing);
            let mut response = next.run(request).await;
            response.extensions_mut().insert(caller);
            response
        }
        Err(problem) => {
            body::discard(request).await;
            problem.into_response()
        }
    }
}
