//! The few pages for people without a program: plain HTML, no script, nothing from elsewhere, nothing kept.

use std::fmt::Write;

use axum::body::Body;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use chrono::{DateTime, Utc};

use super::link_token::Link;
use crate::{Approval, NOTE_BYTES_MAX};

/// Styles of its own and a form that goes back here: nothing else is let in or out.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
);

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}\
pre{background:#f4f4f4;border:1px solid #ccc;padding:1rem;overflow:auto;white-space:pre-wrap;overflow-wrap:anywhere}\
dt{font-weight:600}dd{margin:0 0 .5rem;overflow-wrap:anywhere}label{display:block;margin:.75rem 0}\
input,textarea{display:block;width:100%;box-sizing:border-box;font:inherit;padding:.4rem}\
button{font:inherit;padding:.5rem 1.5rem;margin-right:1rem}";

/// Marks an answer that is a page: its errors are not told as JSON.
#[derive(Clone, Copy, Debug)]
pub(super) struct Page;

/// A page; `body` is HTML.
fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let title = text(title);
    let html = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><meta name=\"robots\" content=\"noindex\">\
         <style>{STYLE}</style></head>\n<body>\n<h1>{title}</h1>\n{body}\n</body></html>\n"
    );
    let mut response = Response::new(Body::from(html));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    response.extensions_mut().insert(Page);
    response
}

/// A page that says one thing.
pub(super) fn saying(status: StatusCode, title: &str, what: &str) -> Response {
    page(status, title, &format!("<p>{}</p>", text(what)))
}

/// What is asked, and the form to decide by.
pub(super) fn asking(approval: &Approval, link: &Link) -> Response {
    let question = if approval.question.is_empty() { "Do you approve this task?" } else { &approval.question };
    let ends = i64::try_from(link.exp).ok().and_then(|exp| DateTime::from_timestamp(exp, 0));
    let facts = [
        ("Task", format!("{} ({}), {}", approval.task_type, approval.priority, approval.task_id)),
        ("Asked by", approval.requested_by.clone().unwrap_or_else(|| "(not told)".into())),
        ("Why it is asked", approval.reason.clone()),
        ("Who decides", approval.approver.clone()),
        ("You decide as", link.sub.clone()),
        ("Asked at", instant(approval.requested_at)),
        ("Closed without a decision at", instant(approval.expires_at)),
        ("This link is good until", ends.map_or_else(String::new, instant)),
        ("SHA-256 of what is shown", approval.payload_hash.clone()),
    ];
    let mut body = String::from("<dl>\n");
    for (name, value) in facts {
        let _ = writeln!(body, "<dt>{name}</dt><dd>{}</dd>", text(&value));
    }
    for vote in &approval.votes {
        let _ = writeln!(body, "<dt>Said yes</dt><dd>{} {}</dd>", text(&vote.by), text(&vote.note));
    }
    let shown = serde_json::to_string_pretty(&approval.shown).unwrap_or_else(|_| approval.shown.to_string());
    let _ = writeln!(body, "</dl>\n<h2>What is to be approved</h2>\n<pre>{}</pre>", text(&shown));
    body.push_str("<form method=\"post\" accept-charset=\"utf-8\">\n");
    for field in &approval.form {
        let _ = writeln!(body, "<label>{0}<input name=\"form.{0}\" autocomplete=\"off\"></label>", text(field));
    }
    if !approval.form.is_empty() {
        body.push_str(
            "<p>A number, true and false are taken as such; put them in quotes (\"7\") to have them taken as text.</p>\n",
        );
    }
    let _ = write!(
        body,
        "<label>Note, or the reason for a no<textarea name=\"note\" rows=\"3\" maxlength=\"{NOTE_BYTES_MAX}\"></textarea></label>\n\
         <button name=\"decision\" value=\"approve\">Approve</button>\n\
         <button name=\"decision\" value=\"reject\">Reject</button>\n</form>\n<p>This link decides once.</p>"
    );
    page(StatusCode::OK, question, &body)
}

fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// Somebody's text, fit for a text node and for an attribute in quotes. What would not be seen, or would turn the
/// direction of what is around it, is named instead.
pub(super) fn text(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for c in raw.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(c),
            c if c.is_control() || is_unseen(c) => {
                let _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    safe
}

/// Directions, joiners and blanks of no width (Unicode 16, general category Cf, those that text in the wild abuses).
fn is_unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_somebodys_text_is_markup_or_unseen() {
        assert_eq!(
            text("<img src=x onerror='a(\"b\")'> & ü"),
            "&lt;img src=x onerror=&#39;a(&quot;b&quot;)&#39;&gt; &amp; ü"
        );
        assert_eq!(text("a\u{202e}b\u{0}\n"), "a\\u{202e}b\\u{0}\n");
    }
}
