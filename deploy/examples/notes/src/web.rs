//! The routes. Every answer carries the version in `X-Version`; `/` and
//! `/slow` do not need the database.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use serde::Deserialize;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::database;
use crate::health::{Report, Status};
use crate::settings::{Health, Settings};

/// How long websockets may take to close after SIGTERM.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);
const UNDEFINED_COLUMN: &str = "42703";
const VERSION_HEADER: HeaderName = HeaderName::from_static("x-version");

struct Service {
    pool: PgPool,
    settings: Settings,
    stop: watch::Receiver<bool>,
    /// Websockets hold a receiver each: it is closed when the last has ended.
    sockets: watch::Sender<()>,
}

pub async fn serve(settings: Settings, stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let address = settings.address;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address}"))?
        .tap_io(|stream| {
            // An answer held back for 40 ms is only slower, so this may fail.
            let _ = stream.set_nodelay(true);
        });
    println!(
        "serving on {address} version={} commit={} database={}/{}",
        settings.version,
        settings.commit,
        settings.database.get_host(),
        settings.database.get_database().unwrap_or_default(),
    );
    let version =
        HeaderValue::from_str(&settings.version).context("NOTES_VERSION cannot be sent as a header")?;
    let service = Arc::new(Service {
        pool: database::pool(settings.database.clone()),
        settings,
        stop: stop.clone(),
        sockets: watch::Sender::new(()),
    });
    axum::serve(listener, routes(Arc::clone(&service), version))
        .with_graceful_shutdown(stopped(stop))
        .await
        .context("cannot go on serving")?;
    if timeout(CLOSE_LIMIT, service.sockets.closed()).await.is_err() {
        println!("websockets were still open after {} s", CLOSE_LIMIT.as_secs());
    }
    service.pool.close().await;
    println!("ended");
    Ok(())
}

fn routes(service: Arc<Service>, version: HeaderValue) -> Router {
    let stamp = move |mut response: Response| {
        response.headers_mut().insert(VERSION_HEADER, version.clone());
        std::future::ready(response)
    };
    Router::new()
        .route("/", get(async || "notes\n"))
        .route("/notes", get(latest).post(add))
        .route("/notes/{id}", get(note))
        .route("/slow", get(slow))
        .route("/ws", get(echo))
        .route("/health", get(health))
        .fallback(async || (StatusCode::NOT_FOUND, "there is nothing here\n"))
        .layer(map_response(stamp))
        .with_state(service)
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that nobody is left to ask for the end: it has come.
    let _ = stop.wait_for(|stop| *stop).await;
}

async fn latest(State(service): State<Arc<Service>>) -> Result<Response, Failure> {
    Ok(json(StatusCode::OK, database::latest(&service.pool).await?))
}

async fn note(State(service): State<Arc<Service>>, Path(id): Path<i64>) -> Result<Response, Failure> {
    Ok(match database::note(&service.pool, id).await? {
        Some(note) => json(StatusCode::OK, note),
        None => (StatusCode::NOT_FOUND, "there is no such note\n").into_response(),
    })
}

#[derive(Deserialize)]
struct NewNote {
    text: String,
    author: Option<String>,
}

async fn add(
    State(service): State<Arc<Service>>,
    headers: HeaderMap,
    body: String,
) -> Result<Response, Failure> {
    let is_json =
        headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    let new = if is_json {
        serde_json::from_str(&body).map_err(|error| Failure::Refused(error.to_string()))?
    } else {
        NewNote { text: body, author: None }
    };
    if new.text.trim().is_empty() {
        return Err(Failure::Refused("a note needs a text".to_owned()));
    }
    match database::add(&service.pool, &new.text, new.author.as_deref()).await {
        Ok(note) => Ok(json(StatusCode::CREATED, note)),
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_COLUMN) => {
            Err(Failure::Refused("authors need schema 2".to_owned()))
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
struct Slow {
    ms: Option<u64>,
}

async fn slow(Query(slow): Query<Slow>) -> String {
    let ms = slow.ms.unwrap_or(2000);
    sleep(Duration::from_millis(ms)).await;
    format!("answered after {ms} ms\n")
}

async fn echo(State(service): State<Arc<Service>>, upgrade: WebSocketUpgrade) -> Response {
    let open = service.sockets.subscribe();
    let stop = service.stop.clone();
    upgrade.on_upgrade(async move |socket| {
        // The client's going away in the middle of a message is its own affair.
        let _ = echo_until(socket, stop).await;
        drop(open);
    })
}

async fn echo_until(mut socket: WebSocket, stop: watch::Receiver<bool>) -> Result<(), axum::Error> {
    let stopped = stopped(stop);
    tokio::pin!(stopped);
    loop {
        let message = tokio::select! {
            () = &mut stopped => return socket.send(Message::Close(None)).await,
            message = socket.recv() => message,
        };
        match message {
            Some(Ok(message @ (Message::Text(_) | Message::Binary(_)))) => socket.send(message).await?,
            // Pings are answered and closes acknowledged by the library.
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Close(_))) | None => return Ok(()),
            Some(Err(error)) => return Err(error),
        }
    }
}

async fn health(State(service): State<Arc<Service>>) -> Response {
    let settings = &service.settings;
    let report = async || Report::make(&service.pool, &settings.version, &settings.commit).await;
    let report = match settings.health {
        Health::Real => report().await,
        Health::Degraded => report().await.at_least(Status::Degraded),
        Health::Unhealthy => report().await.at_least(Status::Unhealthy),
        Health::Hang => {
            stopped(service.stop.clone()).await;
            return (StatusCode::SERVICE_UNAVAILABLE, "ending\n").into_response();
        }
        Health::Error => {
            return (StatusCode::INTERNAL_SERVER_ERROR, "NOTES_HEALTH says so\n").into_response();
        }
    };
    let code = match report.status {
        Status::Healthy | Status::Degraded => StatusCode::OK,
        Status::Unhealthy => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, Json(report)).into_response()
}

fn json(code: StatusCode, body: String) -> Response {
    (code, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response()
}

enum Failure {
    Refused(String),
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Failure {
        Failure::Database(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Failure::Refused(why) => (StatusCode::UNPROCESSABLE_ENTITY, why + "\n").into_response(),
            Failure::Database(error) => {
                println!("a request failed: {error}");
                (StatusCode::INTERNAL_SERVER_ERROR, "the database did not do it\n").into_response()
            }
        }
    }
}
