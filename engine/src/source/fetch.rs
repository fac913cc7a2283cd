//! One polite request: named, conditional, limited in time and size.
//!
//! A body is counted after it is unpacked and while it arrives, so that neither a huge one nor a small
//! one that unpacks to a huge one is ever held. Texts of errors name the address without its query,
//! where keys are kept.

use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderValue};
use reqwest::{Client, Response, StatusCode, Url};
use velib_operators::row;

use super::SourceError;
use super::settings::Settings;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
const REDIRECTS: usize = 5;
const TIMEOUT: Duration = Duration::from_secs(30);
const MAX_BYTES: usize = 64_000_000;
/// As much of an error's body as is read for its reason.
const ERROR_BYTES: usize = 16_384;
/// As much of that reason as is told.
const ERROR_CHARS: usize = 200;
/// No server makes us wait longer than this.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);

/// The client that all sources share: TLS by rustls with the authorities that the system trusts, gzip, a few
/// redirects, no cookies. Where the system names no authorities, it speaks to nobody over TLS.
///
/// # Errors
/// TLS cannot be set up.
pub fn build_client() -> Result<Client, SourceError> {
    // An error only says that a provider was installed before, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = || {
        Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .redirect(reqwest::redirect::Policy::limited(REDIRECTS))
            .gzip(true)
    };
    let client = builder().build().or_else(|error| {
        let error = chain(&error);
        tracing::warn!(
            error,
            "no certificates can be checked, so https addresses are refused: install ca-certificates"
        );
        // Feeds on this machine and files need none.
        builder().tls_certs_only([]).build()
    });
    client.map_err(|error| SourceError::Unavailable(format!("no HTTP client can be had: {}", chain(&error))))
}

/// How a source asks; the same for every request of it.
#[derive(Clone, Debug)]
pub(super) struct Manners {
    /// For the whole of a request.
    pub(super) timeout: Duration,
    /// The largest body, unpacked.
    pub(super) max_bytes: usize,
    /// Some servers answer 403 to requests without one.
    pub(super) user_agent: HeaderValue,
}

impl Manners {
    /// The names of the settings.
    pub(super) const SETTINGS: [&'static str; 3] = ["timeout", "max_bytes", "user_agent"];

    /// Reads `timeout`, `max_bytes` and `user_agent`.
    pub(super) fn bind(settings: &Settings<'_>) -> Result<Self, SourceError> {
        let agent = settings.text("user_agent").unwrap_or(concat!("velibinsight/", env!("CARGO_PKG_VERSION")));
        let range = Duration::from_millis(10)..=Duration::from_secs(3_600);
        Ok(Manners {
            timeout: settings.duration("timeout", TIMEOUT, range)?,
            max_bytes: settings.bytes("max_bytes", MAX_BYTES)?,
            user_agent: HeaderValue::from_str(agent)
                .map_err(|_| settings.wrong("user_agent", "write printable ASCII characters"))?,
        })
    }
}

/// What identifies a body that was accepted, so that the same one is not sent or decoded again.
#[derive(Clone, Debug, Default)]
pub(super) struct Validators {
    etag: Option<HeaderValue>,
    last_modified: Option<HeaderValue>,
    body: Option<(usize, u64)>,
}

/// An answer.
#[derive(Debug)]
pub(super) enum Fetched {
    /// The body is the one of the validators.
    Unchanged,
    /// Another body, with the validators to keep once it is accepted.
    Body(Vec<u8>, Validators),
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub(super) struct FetchError {
    /// The address and the reason.
    pub(super) message: String,
    /// The server said when to come again.
    pub(super) retry_after: Option<Duration>,
}

/// Asks for `url` once. `now` (milliseconds since 1970) tells how far away a `Retry-After` date is.
pub(super) async fn fetch(
    client: &Client,
    url: &Url,
    manners: &Manners,
    known: &Validators,
    now: u64,
) -> Result<Fetched, FetchError> {
    let failed = |why: String| FetchError { message: format!("{}: {why}", plain(url)), retry_after: None };
    let mut request = client
        .get(url.clone())
        .timeout(manners.timeout)
        .header(header::USER_AGENT, manners.user_agent.clone())
        .header(header::ACCEPT, "application/json, */*;q=0.5");
    if let Some(etag) = &known.etag {
        request = request.header(header::IF_NONE_MATCH, etag.clone());
    }
    if let Some(date) = &known.last_modified {
        request = request.header(header::IF_MODIFIED_SINCE, date.clone());
    }
    let response = request.send().await.map_err(|error| failed(explain(error, manners)))?;
    let status = response.status();
    if status == StatusCode::NOT_MODIFIED && known.body.is_some() {
        return Ok(Fetched::Unchanged);
    }
    if !status.is_success() {
        let retry_after = retry_after(response.headers(), now);
        let reason = reason(response).await.map(|reason| format!(": {reason}")).unwrap_or_default();
        return Err(FetchError { message: format!("{}: {status}{reason}", plain(url)), retry_after });
    }
    let validator = |name| response.headers().get(name).cloned();
    let mut validators =
        Validators { etag: validator(header::ETAG), last_modified: validator(header::LAST_MODIFIED), body: None };
    let bytes = body(response, manners).await.map_err(failed)?;
    let print = (bytes.len(), row::hash(&bytes));
    if known.body == Some(print) {
        return Ok(Fetched::Unchanged);
    }
    validators.body = Some(print);
    Ok(Fetched::Body(bytes, validators))
}

/// The body, as long as it stays within the limit.
async fn body(mut response: Response, manners: &Manners) -> Result<Vec<u8>, String> {
    let limit = manners.max_bytes;
    let refused = || format!("the body is larger than {limit} bytes: raise max_bytes if it should be");
    let expected = usize::try_from(response.content_length().unwrap_or(0)).unwrap_or(usize::MAX);
    if expected > limit {
        return Err(refused());
    }
    let mut bytes = Vec::with_capacity(expected);
    while let Some(chunk) = response.chunk().await.map_err(|error| explain(error, manners))? {
        if bytes.len() + chunk.len() > limit {
            return Err(refused());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// What an error's body says, if it says it in JSON or in a line of plain text.
async fn reason(mut response: Response) -> Option<String> {
    let mut bytes = Vec::new();
    while bytes.len() < ERROR_BYTES {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            _ => break,
        }
    }
    let text = String::from_utf8_lossy(&bytes);
    let text = text.trim();
    let said = match serde_json::from_str::<serde_json::Value>(text) {
        Ok(json) => {
            ["reason", "message", "error", "detail"].iter().find_map(|key| Some(json.get(key)?.as_str()?.to_owned()))
        }
        Err(_) => text.lines().next().filter(|line| !line.starts_with('<')).map(str::to_owned),
    };
    Some(said?.chars().take(ERROR_CHARS).collect())
}

/// `Retry-After` in seconds or as a date, within limits.
fn retry_after(headers: &HeaderMap, now: u64) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let at = chrono::DateTime::parse_from_rfc2822(value).ok()?.timestamp_millis();
            Duration::from_millis(u64::try_from(at).ok()?.saturating_sub(now))
        }
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn explain(error: reqwest::Error, manners: &Manners) -> String {
    if error.is_timeout() {
        return format!("no whole answer within {:?}", manners.timeout);
    }
    if error.is_redirect() {
        return format!("more than {REDIRECTS} redirects");
    }
    if error.is_connect() {
        return format!("no connection: {}", last_cause(&error));
    }
    chain(&error.without_url())
}

/// What happened, without who noticed: `Connection refused`, `invalid peer certificate: …`.
fn last_cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    let text = last.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// An error and what caused it: the last of them says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The address without user, password, query and fragment.
pub(super) fn plain(url: &Url) -> Arc<str> {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), url.path()).into()
}

/// Reads an `http` or `https` address; `None` for anything else.
pub(super) fn address(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_say_when_to_come_again() {
        let now = 1_730_822_539_000;
        let after = |value: &'static str| {
            let headers = HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(value))]);
            retry_after(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(after("120"), Some(120));
        assert_eq!(after("Tue, 05 Nov 2024 16:03:19 GMT"), Some(60));
        assert_eq!(after("Tue, 05 Nov 2019 16:03:19 GMT"), Some(0));
        assert_eq!(after("999999999"), Some(3_600));
        assert_eq!(after("soon"), None);
    }

    #[test]
    fn addresses_are_told_without_their_secrets() {
        let url = address("https://me:secret@example.com:8443/gbfs.json?key=secret#here").unwrap();
        assert_eq!(&*plain(&url), "https://example.com:8443/gbfs.json");
        assert!(address("file:///etc/passwd").is_none() && address("data/*.json").is_none());
    }
}
