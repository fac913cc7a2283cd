//! The part of the API that is about jobs.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Shared;
use super::api::{Change, Cluster, Failure, Frontier, Job, Process, Scale, Sink, Submit, Submitted};
use crate::catalog::{self, CatalogError};
use crate::command::Spec;
use crate::plan::explain;
use crate::postgres::job::{Definition, Desired, Job as StoredJob};
use crate::postgres::{PostgresError, Store};

/// How long the leader may take to answer for another process.
const FORWARD: Duration = Duration::from_secs(60);
/// How often a submission looks again at what others changed under it.
const TRIES: usize = 3;
/// Marks what was passed on: it is not passed on again.
const FORWARDED: &str = "x-velib-forwarded";

/// An answer that is not 2xx.
pub(super) struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(Failure { error: self.1 })).into_response()
    }
}

impl From<PostgresError> for Refused {
    fn from(error: PostgresError) -> Self {
        Refused(StatusCode::SERVICE_UNAVAILABLE, format!("the database of the cluster: {error}"))
    }
}

impl From<CatalogError> for Refused {
    fn from(error: CatalogError) -> Self {
        let code = if error.is_retriable() { StatusCode::BAD_GATEWAY } else { StatusCode::BAD_REQUEST };
        Refused(code, error.to_string())
    }
}

type Answer = Result<Response, Refused>;

fn store(shared: &Shared) -> Result<&Arc<Store>, Refused> {
    let wait = || Refused(StatusCode::SERVICE_UNAVAILABLE, "the database of the cluster is not reached yet".into());
    shared.store.get().ok_or_else(wait)
}

fn no_job(name: &str) -> Refused {
    Refused(StatusCode::NOT_FOUND, format!("there is no job {name}; `velib jobs` lists those there are"))
}

/// Has the leader answer what is asked of another process.
pub(super) async fn to_leader(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    match shared.leader() {
        Some((leader, _)) if leader == shared.me => next.run(request).await,
        Some((_, address)) => pass_on(&shared, &address, request).await.unwrap_or_else(Refused::into_response),
        None => {
            let error = "the cluster has no leader at this moment".to_owned();
            Refused(StatusCode::SERVICE_UNAVAILABLE, error).into_response()
        }
    }
}

async fn pass_on(shared: &Shared, address: &str, request: Request) -> Answer {
    if request.headers().contains_key(FORWARDED) {
        let error = "the leader of the cluster is changing: ask again";
        return Err(Refused(StatusCode::SERVICE_UNAVAILABLE, error.into()));
    }
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, super::BODY)
        .await
        .map_err(|error| Refused(StatusCode::PAYLOAD_TOO_LARGE, format!("this is no submission: {error}")))?;
    let away = |error: reqwest::Error| {
        Refused(StatusCode::BAD_GATEWAY, format!("the leader at {address} does not answer: {error}"))
    };
    let to = format!("http://{address}{}", parts.uri);
    let request = shared.context.http.request(parts.method, to).timeout(FORWARD).header(FORWARDED, "1");
    let answer = request.header("content-type", "application/json").body(body).send().await.map_err(away)?;
    let code = StatusCode::from_u16(answer.status().as_u16()).unwrap_or(StatusCode::BAD_GATEWAY);
    let body = answer.bytes().await.map_err(away)?;
    Ok((code, [("content-type", "application/json")], body).into_response())
}

/// `GET /api/jobs`
pub(super) async fn list(State(shared): State<Arc<Shared>>) -> Answer {
    Ok(Json(serde_json::json!({ "jobs": all(&shared).await? })).into_response())
}

/// `GET /api/jobs/{name}`
pub(super) async fn show(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Answer {
    let stored = store(&shared)?.job(&name).await?.ok_or_else(|| no_job(&name))?;
    let mut job = describe(&shared, &stored).await?;
    job.explain = planned(&shared, &stored).map(|plan| explain::text(&plan));
    job.text = Some(stored.text);
    job.parameters = stored.parameters;
    Ok(Json(job).into_response())
}

/// `GET /api/status`
pub(super) async fn status(State(shared): State<Arc<Shared>>) -> Answer {
    let view = shared.view();
    let place = |id| view.generation.members.iter().position(|member| *member == id);
    let mut processes: Vec<Process> = view
        .processes
        .iter()
        .map(|process| Process {
            address: process.api.clone(),
            mesh: process.mesh.clone(),
            index: place(process.process).map(|index| index as i32),
            workers: process.workers,
            generation: process.place.member.map(|(number, _)| number as i64),
            version: process.version.clone(),
            silent_ms: process.silent_ms,
            leaving: process.place.leaving,
        })
        .collect();
    processes.sort_by_key(|process| process.index.unwrap_or(i32::MAX));
    let generation = shared.generation().map_or(0, |(number, _)| number);
    let cluster = Cluster { generation, wanted: view.wanted, processes, jobs: all(&shared).await? };
    Ok(Json(cluster).into_response())
}

/// `POST /api/scale`: of any process, whether there is a leader or not.
pub(super) async fn scale(State(shared): State<Arc<Shared>>, body: Bytes) -> Answer {
    let scale: Scale = serde_json::from_slice(&body)
        .ok()
        .filter(|scale: &Scale| scale.processes != Some(0))
        .ok_or_else(|| Refused(StatusCode::BAD_REQUEST, "processes is a number from 1, or null for all".into()))?;
    store(&shared)?.want(scale.processes).await?;
    Ok(Json(scale).into_response())
}

/// `POST /api/jobs`
pub(super) async fn submit(State(shared): State<Arc<Shared>>, body: Bytes) -> Answer {
    let submit: Submit = serde_json::from_slice(&body)
        .map_err(|error| Refused(StatusCode::BAD_REQUEST, format!("this is no submission: {error}")))?;
    let store = store(&shared)?;
    let prepared = catalog::prepare(&submit.name, &submit.text, &submit.parameters, &shared.context).await?;
    let resolved = serde_json::to_string(&prepared.spec.resolved)
        .map_err(|error| Refused(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))?;
    let definition =
        Definition { name: submit.name.clone(), text: submit.text, parameters: submit.parameters, resolved };
    let change = settle(store, &definition, submit.replace).await?;
    shared.submitted.notify_one();
    let views = prepared.plan.views.iter().map(|view| view.name.clone()).collect();
    let code = if change == Change::Installed { StatusCode::CREATED } else { StatusCode::OK };
    Ok((code, Json(Submitted { name: submit.name, change, views })).into_response())
}

/// Writes a definition down, unless there is another one that is not to be replaced.
async fn settle(store: &Store, new: &Definition, replace: bool) -> Result<Change, Refused> {
    // Others submit and drop at the same time: what was found may not be there any more.
    for _ in 0..TRIES {
        match store.job(&new.name).await? {
            Some(old) if !replace && old.text == new.text && old.parameters == new.parameters => {
                return Ok(Change::Unchanged);
            }
            Some(_) if !replace => break,
            Some(_) if store.replace(new).await? => return Ok(Change::Replaced),
            None if store.submit(new).await? => return Ok(Change::Installed),
            _ => {}
        }
    }
    let name = &new.name;
    let error = format!(
        "there is another job {name} already; `velib submit --replace` puts this one in its place, `--name` gives it another name"
    );
    Err(Refused(StatusCode::CONFLICT, error))
}

/// `DELETE /api/jobs/{name}`
pub(super) async fn drop(State(shared): State<Arc<Shared>>, Path(name): Path<String>) -> Answer {
    if !store(&shared)?.drop_job(&name).await? {
        return Err(no_job(&name));
    }
    shared.submitted.notify_one();
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// `POST /api/jobs/{name}/pause`
pub(super) async fn pause(shared: State<Arc<Shared>>, name: Path<String>) -> Answer {
    desire(shared, name, Desired::Paused).await
}

/// `POST /api/jobs/{name}/resume`
pub(super) async fn resume(shared: State<Arc<Shared>>, name: Path<String>) -> Answer {
    desire(shared, name, Desired::Running).await
}

async fn desire(State(shared): State<Arc<Shared>>, Path(name): Path<String>, desired: Desired) -> Answer {
    if !store(&shared)?.set_desired(&name, desired).await? {
        return Err(no_job(&name));
    }
    shared.submitted.notify_one();
    let stored = store(&shared)?.job(&name).await?.ok_or_else(|| no_job(&name))?;
    Ok(Json(describe(&shared, &stored).await?).into_response())
}

async fn all(shared: &Shared) -> Result<Vec<Job>, Refused> {
    let mut jobs = Vec::new();
    for stored in store(shared)?.jobs().await? {
        jobs.push(describe(shared, &stored).await?);
    }
    Ok(jobs)
}

async fn describe(shared: &Shared, stored: &StoredJob) -> Result<Job, Refused> {
    let frontier = store(shared)?.frontier(&stored.name).await?.map(|frontier| Frontier {
        generation: frontier.generation,
        upper: frontier.upper,
        as_of: frontier.as_of.to_rfc3339(),
        committed_at: frontier.committed_at.to_rfc3339(),
    });
    let view = shared.job(&stored.name);
    let sink = view.as_ref().map(|view| {
        let progress = view.progress.borrow();
        Sink {
            transactions: progress.transactions,
            rows: progress.rows,
            last_ms: progress.last_ms,
            waiting_rows: progress.waiting_rows,
            error: progress.error.clone(),
        }
    });
    Ok(Job {
        name: stored.name.clone(),
        version: stored.version,
        desired: stored.desired,
        status: stored.status,
        detail: stored.status_detail.clone(),
        created_at: stored.created_at.to_rfc3339(),
        frontier,
        views: planned(shared, stored)
            .map_or_else(Vec::new, |plan| plan.views.iter().map(|view| view.name.clone()).collect()),
        sources: view.map(|view| view.status.borrow().sources.clone()).unwrap_or_default(),
        sink,
        text: None,
        parameters: Default::default(),
        explain: None,
    })
}

/// The plan of a job in the database, if this version can make it. Planning takes long; looking does not.
fn planned(shared: &Shared, stored: &StoredJob) -> Option<Arc<crate::plan::Job>> {
    let definition = (stored.created_at, stored.version);
    if let Some(plan) = shared.plan(&stored.name, definition) {
        return Some(plan);
    }
    let spec = Spec {
        name: stored.name.clone(),
        text: stored.text.clone(),
        parameters: stored.parameters.clone(),
        resolved: serde_json::from_str(&stored.resolved).ok()?,
        explain: String::new(),
    };
    let plan = catalog::rebind(spec).ok()?.plan;
    shared.planned(&stored.name, definition, &plan);
    Some(plan)
}
