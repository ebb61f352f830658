//! The script over HTTP, for people: `/_standin/…`.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, put};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::super::Service;
use super::services::json_answer;
use super::{Behaviour, RulesOf, Shared, Text, User};

type Shares = State<Arc<Shared>>;

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/_standin/health", get(health))
        .route("/_standin/journal", get(journal))
        .route("/_standin/behaviour/{service}", put(behaviour))
        .route("/_standin/users", put(users))
        .route("/_standin/everyone", put(everyone))
        .route("/_standin/texts", put(texts))
        .route("/_standin/rules", put(rules))
}

async fn health() -> Response {
    json_answer(StatusCode::OK, json!({"status": "UP"}).to_string())
}

async fn journal(State(shared): Shares) -> Response {
    let calls = shared.journal.calls();
    match serde_json::to_string(&calls) {
        Ok(body) => json_answer(StatusCode::OK, body),
        Err(problem) => wrong(StatusCode::INTERNAL_SERVER_ERROR, &problem.to_string()),
    }
}

async fn behaviour(State(shared): Shares, Path(service): Path<String>, body: Bytes) -> Response {
    let Some(service) = Service::from_word(&service) else {
        let words = Service::ALL.map(Service::as_str).join(", ");
        return wrong(StatusCode::NOT_FOUND, &format!("the services are {words}"));
    };
    take(&body, |script: Behaviour| shared.stage(service).set(script))
}

async fn users(State(shared): Shares, body: Bytes) -> Response {
    take(&body, |users: Vec<User>| {
        users
            .into_iter()
            .for_each(|u| shared.population.add_user(u));
    })
}

async fn everyone(State(shared): Shares, body: Bytes) -> Response {
    take(&body, |known| shared.population.set_everyone(known))
}

async fn texts(State(shared): Shares, body: Bytes) -> Response {
    take(&body, |texts: Vec<Text>| {
        texts
            .into_iter()
            .for_each(|t| shared.population.set_text(t));
    })
}

async fn rules(State(shared): Shares, body: Bytes) -> Response {
    take(&body, |rules: RulesOf| shared.population.set_rules(rules))
}

/// Does `act` with the body, or says what is wrong with it.
fn take<T: DeserializeOwned>(body: &[u8], act: impl FnOnce(T)) -> Response {
    match serde_json::from_slice(body) {
        Ok(value) => {
            act(value);
            json_answer(StatusCode::OK, json!({"done": true}).to_string())
        }
        Err(problem) => wrong(StatusCode::BAD_REQUEST, &problem.to_string()),
    }
}

fn wrong(status: StatusCode, sentence: &str) -> Response {
    json_answer(status, json!({"error": sentence}).to_string())
}
