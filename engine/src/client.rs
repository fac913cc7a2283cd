//! The HTTP API of a cluster, from the outside: one typed function a request of [`api`](crate::server::api).
//!
//! Any process of the cluster may be asked. Every request and every answer has a limit, and an error
//! names the address that was asked.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use crate::server::api::{Cluster, Failure, Job, Scale, Submit, Submitted};
use crate::source::build_client;

/// Where a cluster is asked if nobody says where it is.
pub const ADDRESS: &str = "http://127.0.0.1:7070";

/// How long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);
/// How long it may take where sources are asked before the answer, or tables removed.
const WORK_LIMIT: Duration = Duration::from_secs(120);
/// The largest answer: a plan is some kilobytes, a cluster has some hundreds of jobs.
const ANSWER_BYTES: usize = 64_000_000;
/// As much of an answer that is not the API's as is told.
const TOLD_CHARS: usize = 120;

/// A cluster that is asked and told things.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
}

/// Why a cluster did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is not one.
    #[error("the address of the cluster cannot be {given:?} ({reason}): write it as {ADDRESS}")]
    Address {
        /// As it was given.
        given: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers there.
    #[error(
        "no cluster answers at {address} ({reason}): start one with `velib worker`, or say where with --api or VELIB_API"
    )]
    Unreachable {
        /// Who was asked.
        address: String,
        /// The system's word.
        reason: String,
    },
    /// The answer takes too long.
    #[error("the cluster at {address} took longer than {} s and was given up: look at `velib status`", after.as_secs())]
    Timeout {
        /// Who was asked.
        address: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// It says no.
    #[error("{error}")]
    Refused {
        /// Of HTTP.
        status: u16,
        /// In its own words.
        error: String,
    },
    /// Somebody else lives there, or another version.
    #[error("what answers at {address} is not the API of this version of velib ({reason}): is the address right?")]
    Foreign {
        /// Who was asked.
        address: String,
        /// What came.
        reason: String,
    },
}

impl ClientError {
    /// It may be otherwise later, without anybody changing what was asked.
    pub fn is_retriable(&self) -> bool {
        match self {
            ClientError::Unreachable { .. } | ClientError::Timeout { .. } => true,
            ClientError::Refused { status, .. } => matches!(status, 429 | 502..=504),
            ClientError::Address { .. } | ClientError::Foreign { .. } => false,
        }
    }

    /// There is no job of that name.
    pub fn is_not_found(&self) -> bool {
        matches!(self, ClientError::Refused { status: 404, .. })
    }
}

/// The body of `GET /api/jobs`.
#[derive(serde::Deserialize)]
struct Jobs {
    jobs: Vec<Job>,
}

impl Client {
    /// For the cluster at `address`: `http://host:port`, of any of its processes.
    ///
    /// # Errors
    /// The address is not one; nothing is asked yet.
    pub fn new(address: &str) -> Result<Self, ClientError> {
        let wrong = |reason: String| ClientError::Address { given: address.to_string(), reason };
        let full = if address.contains("://") { address.to_string() } else { format!("http://{address}") };
        let base = Url::parse(&full).map_err(|error| wrong(error.to_string()))?;
        if !matches!(base.scheme(), "http" | "https") || !base.has_host() {
            return Err(wrong("it is not an http address".to_string()));
        }
        let http = build_client().map_err(|error| wrong(error.to_string()))?;
        Ok(Client { http, base })
    }

    /// Where it asks.
    pub fn address(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// All jobs, by name.
    ///
    /// # Errors
    /// As of every function here: nobody answers, or the answer is no.
    pub async fn jobs(&self) -> Result<Vec<Job>, ClientError> {
        let jobs: Jobs = self.answer(self.request(Method::GET, &["api", "jobs"]), ANSWER_LIMIT).await?;
        Ok(jobs.jobs)
    }

    /// One job, with its text and plan.
    ///
    /// # Errors
    /// There is none of that name; and as of [`Self::jobs`].
    pub async fn job(&self, name: &str) -> Result<Job, ClientError> {
        self.answer(self.request(Method::GET, &["api", "jobs", name]), ANSWER_LIMIT).await
    }

    /// Installs a job, or replaces one.
    ///
    /// # Errors
    /// The text is refused, or there is such a job and it is not to be replaced; and as of [`Self::jobs`].
    pub async fn submit(&self, job: &Submit) -> Result<Submitted, ClientError> {
        self.answer(self.request(Method::POST, &["api", "jobs"]).json(job), WORK_LIMIT).await
    }

    /// Has a job leave its tables as they are.
    ///
    /// # Errors
    /// There is none of that name; and as of [`Self::jobs`].
    pub async fn pause(&self, name: &str) -> Result<Job, ClientError> {
        self.answer(self.request(Method::POST, &["api", "jobs", name, "pause"]), ANSWER_LIMIT).await
    }

    /// Has a job go on.
    ///
    /// # Errors
    /// There is none of that name; and as of [`Self::jobs`].
    pub async fn resume(&self, name: &str) -> Result<Job, ClientError> {
        self.answer(self.request(Method::POST, &["api", "jobs", name, "resume"]), ANSWER_LIMIT).await
    }

    /// Removes a job with its tables.
    ///
    /// # Errors
    /// There is none of that name, or other objects depend on its tables; and as of [`Self::jobs`].
    pub async fn drop_job(&self, name: &str) -> Result<(), ClientError> {
        self.send(self.request(Method::DELETE, &["api", "jobs", name]), WORK_LIMIT).await.map(|_| ())
    }

    /// The processes and the jobs.
    ///
    /// # Errors
    /// As of [`Self::jobs`].
    pub async fn status(&self) -> Result<Cluster, ClientError> {
        self.answer(self.request(Method::GET, &["api", "status"]), ANSWER_LIMIT).await
    }

    /// Says how many processes are to compute; none: all there are.
    ///
    /// # Errors
    /// As of [`Self::jobs`].
    pub async fn scale(&self, processes: Option<u16>) -> Result<Scale, ClientError> {
        self.answer(self.request(Method::POST, &["api", "scale"]).json(&Scale { processes }), ANSWER_LIMIT).await
    }

    /// The process that answers lives.
    ///
    /// # Errors
    /// It does not; and as of [`Self::jobs`].
    pub async fn healthy(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::GET, &["healthz"]), ANSWER_LIMIT).await.map(|_| ())
    }

    /// The process that answers is part of a cluster that can be given work.
    ///
    /// # Errors
    /// It is not (yet); and as of [`Self::jobs`].
    pub async fn ready(&self) -> Result<(), ClientError> {
        self.send(self.request(Method::GET, &["readyz"]), ANSWER_LIMIT).await.map(|_| ())
    }

    /// The segments are quoted, whatever letters a name has.
    fn request(&self, method: Method, path: &[&str]) -> RequestBuilder {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("an http address has a path").pop_if_empty().extend(path);
        self.http.request(method, url)
    }

    async fn answer<T: DeserializeOwned>(&self, request: RequestBuilder, limit: Duration) -> Result<T, ClientError> {
        let body = self.send(request, limit).await?;
        serde_json::from_slice(&body).map_err(|error| self.foreign(error.to_string()))
    }

    /// The body of a good answer.
    async fn send(&self, request: RequestBuilder, limit: Duration) -> Result<Vec<u8>, ClientError> {
        let response = request.timeout(limit).send().await.map_err(|error| self.lost(&error, limit))?;
        let status = response.status();
        let body = self.body(response, limit).await?;
        if status.is_success() {
            return Ok(body);
        }
        match serde_json::from_slice::<Failure>(&body) {
            Ok(failure) => Err(ClientError::Refused { status: status.as_u16(), error: failure.error }),
            // The health checks say what they say in plain text.
            Err(_) if status == StatusCode::SERVICE_UNAVAILABLE => {
                let error = format!("the process at {} is not ready yet: {}", self.address(), told(&body));
                Err(ClientError::Refused { status: status.as_u16(), error })
            }
            Err(_) => Err(self.foreign(format!("{status}: {}", told(&body)))),
        }
    }

    async fn body(&self, mut response: Response, limit: Duration) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.lost(&error, limit))? {
            if body.len() + chunk.len() > ANSWER_BYTES {
                return Err(self.foreign(format!("an answer of more than {ANSWER_BYTES} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn foreign(&self, reason: String) -> ClientError {
        ClientError::Foreign { address: self.address().to_string(), reason }
    }

    fn lost(&self, error: &reqwest::Error, after: Duration) -> ClientError {
        let address = self.address().to_string();
        if error.is_timeout() && !error.is_connect() {
            return ClientError::Timeout { address, after };
        }
        // The innermost cause is the one that says something: connection refused, no such host.
        let mut cause: &dyn std::error::Error = error;
        while let Some(inner) = cause.source() {
            cause = inner;
        }
        let reason = cause.to_string();
        let reason = reason.split(" (os error").next().unwrap_or_default().to_lowercase();
        ClientError::Unreachable { address, reason }
    }
}

/// The beginning of an answer, on one line.
fn told(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(4 * TOLD_CHARS)]);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.is_empty() { "an empty answer".to_string() } else { line.chars().take(TOLD_CHARS).collect() }
}

#[cfg(test)]
mod tests;
