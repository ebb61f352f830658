//! The four services' paths: shapes as the contract has them, and the faults of the script.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use axum::routing::post;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::Service;
use super::behaviour::Fault;
use super::journal::Call;
use super::line::{Bend, Wire};
use super::{Shared, population};

pub(super) fn routes() -> Router<Arc<Shared>> {
    Router::new()
        .route("/user/_search", post(users))
        .route("/otp/v1/_create", post(otp))
        .route("/localization/messages/v1/_search", post(texts))
        .route("/egov-mdms-service/v1/_search", post(rules))
}

/// What a service did, and what it says of it.
struct Done {
    status: StatusCode,
    body: String,
    otp: Option<String>,
}

impl Done {
    fn ok(body: &Value) -> Self {
        Self {
            status: StatusCode::OK,
            body: body.to_string(),
            otp: None,
        }
    }
}

/// What was asked, as far as the journal wants it.
#[derive(Default)]
struct Asked {
    tenant: Option<String>,
    mobile: Option<String>,
    locale: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserSearch {
    tenant_id: Option<String>,
    user_type: Option<String>,
    mobile_number: Option<String>,
}

async fn users(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(search) = serde_json::from_slice::<UserSearch>(&body) else {
        return unreadable();
    };
    let asked = Asked {
        tenant: search.tenant_id,
        mobile: search.mobile_number,
        locale: None,
    };
    let user_type = search.user_type;
    let work = |asked: &Asked| {
        let mobile = asked.mobile.as_deref().unwrap_or_default();
        let tenant = asked.tenant.as_deref().unwrap_or_default();
        let found = shared.population.find(mobile, tenant, user_type.as_deref());
        let user: Vec<Value> = found.iter().map(as_answered).collect();
        Done::ok(&json!({"responseInfo": {"status": "200"}, "user": user}))
    };
    perform(&shared, Service::Users, &wire, &headers, asked, work).await
}

fn as_answered(user: &population::User) -> Value {
    json!({
        "id": 24,
        "uuid": "00000000-0000-4000-8000-000000000024",
        "userName": user.mobile_number,
        "name": "A Citizen",
        "mobileNumber": user.mobile_number,
        "emailId": user.email_id,
        "type": user.user_type,
        "tenantId": user.tenant_id,
        "active": true,
        "roles": [],
    })
}

#[derive(Deserialize)]
struct OtpCreation {
    otp: OtpFor,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OtpFor {
    identity: Option<String>,
    tenant_id: Option<String>,
}

async fn otp(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(creation) = serde_json::from_slice::<OtpCreation>(&body) else {
        return unreadable();
    };
    let asked = Asked {
        tenant: creation.otp.tenant_id,
        mobile: creation.otp.identity,
        locale: None,
    };
    let work = |asked: &Asked| {
        let otp = shared.population.new_otp();
        let body = json!({
            "responseInfo": null,
            "otp": {
                "otp": otp,
                "UUID": Uuid::new_v4().to_string(),
                "identity": asked.mobile,
                "tenantId": asked.tenant,
                "isValidationSuccessful": false,
            },
        });
        Done {
            status: StatusCode::CREATED,
            body: body.to_string(),
            otp: Some(otp),
        }
    };
    perform(&shared, Service::Otp, &wire, &headers, asked, work).await
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TextSearch {
    tenant_id: String,
    #[serde(default)]
    module: Option<String>,
    locale: String,
}

async fn texts(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    Query(search): Query<TextSearch>,
    headers: HeaderMap,
) -> Response {
    let asked = Asked {
        tenant: Some(search.tenant_id.clone()),
        mobile: None,
        locale: Some(search.locale.clone()),
    };
    let work = |_: &Asked| {
        let known = shared.population.texts(&search.tenant_id, &search.locale);
        let message = |(code, message): (&String, &String)| {
            json!({"code": code, "message": message,
                   "module": search.module, "locale": search.locale})
        };
        let messages: Vec<Value> = known.iter().map(message).collect();
        Done::ok(&json!({"messages": messages}))
    };
    perform(&shared, Service::Texts, &wire, &headers, asked, work).await
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RulesSearch {
    mdms_criteria: Criteria,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Criteria {
    tenant_id: String,
    module_details: Vec<Module>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Module {
    module_name: String,
    master_details: Vec<Master>,
}

#[derive(Deserialize)]
struct Master {
    name: String,
}

async fn rules(
    State(shared): State<Arc<Shared>>,
    ConnectInfo(wire): ConnectInfo<Wire>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Ok(RulesSearch { mdms_criteria }) = serde_json::from_slice(&body) else {
        return unreadable();
    };
    let asked = Asked {
        tenant: Some(mdms_criteria.tenant_id.clone()),
        ..Asked::default()
    };
    let work = |_: &Asked| {
        let entries = shared.population.rules(&mdms_criteria.tenant_id);
        let masters = |module: &Module| -> Value {
            let master = |master: &Master| (master.name.clone(), json!(entries));
            module.master_details.iter().map(master).collect()
        };
        let answer: Value = match entries {
            None => json!({}),
            Some(_) => mdms_criteria
                .module_details
                .iter()
                .map(|module| (module.module_name.clone(), masters(module)))
                .collect(),
        };
        Done::ok(&json!({"ResponseInfo": null, "MdmsRes": answer}))
    };
    perform(&shared, Service::Rules, &wire, &headers, asked, work).await
}

/// Plays the script for one call: delay, work, journal, answer.
async fn perform(
    shared: &Shared,
    service: Service,
    wire: &Wire,
    headers: &HeaderMap,
    asked: Asked,
    work: impl FnOnce(&Asked) -> Done,
) -> Response {
    let step = shared.stage(service).next();
    let in_time = async {
        if !step.delay.is_zero() {
            tokio::time::sleep(step.delay).await;
        }
    };
    tokio::select! {
        biased;
        () = in_time => {}
        () = shared.closed.cancelled() => return bent(wire, Bend::Reset, empty()),
    }
    let spoiled = step.fault.as_ref();
    let mut done = spoiled
        .is_none_or(Fault::spoils_only_the_answer)
        .then(|| work(&asked));
    if let (Some(done), Some(Fault::Oversized { bytes })) = (&mut done, spoiled) {
        done.body.push_str(&" ".repeat(*bytes));
    }
    shared.journal.write(|| {
        let header = |name| headers.get(name)?.to_str().ok().map(str::to_owned);
        Call {
            service,
            tenant: asked.tenant,
            mobile: asked.mobile,
            locale: asked.locale,
            otp: done.as_ref().and_then(|done| done.otp.clone()),
            correlation_id: header("x-correlation-id"),
            traceparent: header("traceparent"),
            tenant_header: header("tenantid"),
            faulty: spoiled.is_some(),
            at: shared.clock.now(),
        }
    });
    let answer = done.map_or_else(empty, |done| json_answer(done.status, done.body));
    match step.fault {
        None => answer,
        Some(fault) => spoil(shared, wire, fault, answer).await,
    }
}

async fn spoil(shared: &Shared, wire: &Wire, fault: Fault, answer: Response) -> Response {
    let pause = std::time::Duration::from_millis;
    match fault {
        Fault::Status {
            status,
            headers,
            body,
        } => plain(status, &headers, body),
        Fault::Tracer { code, message } => {
            let error = json!({"code": code, "message": message,
                               "description": null, "params": null});
            let body = json!({"ResponseInfo": null, "Errors": [error]});
            json_answer(StatusCode::BAD_REQUEST, body.to_string())
        }
        Fault::Reset => bent(wire, Bend::Reset, answer),
        Fault::Hang => {
            shared.closed.cancelled().await;
            bent(wire, Bend::Reset, answer)
        }
        Fault::SlowHeader { pause_ms } => bent(wire, Bend::Trickle(pause(pause_ms)), answer),
        Fault::SlowBody { pause_ms } => bent(wire, Bend::TrickleBody(pause(pause_ms)), answer),
        Fault::Truncated => bent(wire, Bend::CutBody, answer),
        Fault::NotJson => json_answer(StatusCode::OK, "{\"otp\": ".to_owned()),
        Fault::WrongShape => json_answer(StatusCode::OK, "{\"unexpected\": true}".to_owned()),
        Fault::Html => {
            let mut page = json_answer(StatusCode::OK, "<html><body>Welcome</body></html>".into());
            let html = header::HeaderValue::from_static("text/html");
            page.headers_mut().insert(header::CONTENT_TYPE, html);
            page
        }
        Fault::Oversized { .. } => answer,
    }
}

/// The status and headers of a script; what is no legal one becomes a 500.
fn plain(
    status: u16,
    headers: &std::collections::BTreeMap<String, String>,
    body: String,
) -> Response {
    let mut answer = Response::builder().status(status);
    for (name, value) in headers {
        answer = answer.header(name, value);
    }
    answer.body(Body::from(body)).unwrap_or_else(|_| {
        json_answer(
            StatusCode::INTERNAL_SERVER_ERROR,
            "\"the script has no legal status or header\"".to_owned(),
        )
    })
}

/// The answer over a bent connection, which is of no use for another.
fn bent(wire: &Wire, bend: Bend, mut answer: Response) -> Response {
    wire.bend(bend);
    let close = header::HeaderValue::from_static("close");
    answer.headers_mut().insert(header::CONNECTION, close);
    answer
}

/// As tracer answers what it cannot read.
fn unreadable() -> Response {
    let body = json!({"Errors": [{"code": "JsonMappingException", "message": "not readable"}]});
    json_answer(StatusCode::BAD_REQUEST, body.to_string())
}

fn empty() -> Response {
    json_answer(StatusCode::OK, "{}".to_owned())
}

pub(super) fn json_answer(status: StatusCode, body: String) -> Response {
    let mut answer = Response::new(Body::from(body));
    *answer.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    answer.headers_mut().insert(header::CONTENT_TYPE, json);
    answer
}
