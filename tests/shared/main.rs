//! What instances share, on a real Redis that each test starts: limits and idempotency keys, by the
//! library's own doors and a clock that the tests move.
#![expect(clippy::panic, reason = "a test fails by a panic")]

mod frozen;
mod idempotency;
mod limits;
mod port;
mod server;

use std::future::Future;
use std::time::Duration;

use user_otp::clock::{Clock, EpochMs};
use user_otp::config::Config;
use user_otp::domain::contact::MobileNumber;
use user_otp::domain::request::{OtpRequest, RequestType};
use user_otp::domain::tenant::TenantId;
use user_otp::store::Store;

use crate::server::Redis;

/// When the tests begin.
const START: i64 = 1_700_000_000_000;

fn clock() -> Clock {
    Clock::fixed(EpochMs(START))
}

/// On one thread, so that what was begun in the background has begun once the test waits.
fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let test = runtime
        .expect("a runtime")
        .block_on(async { tokio::time::timeout(Duration::from_secs(120), test).await });
    test.expect("nothing waits for ever");
}

/// The defaults and these, without `USER_OTP__`.
fn config(settings: &[(&str, &str)]) -> Config {
    let pairs = settings
        .iter()
        .map(|(key, value)| (format!("USER_OTP__{key}"), (*value).to_owned()));
    Config::load(None, pairs).expect("the settings are right").0
}

/// Settings of one of several instances that share `redis`. Its answers may take long: this machine is
/// busy with other tests.
fn sharing(redis: &Redis, group: &str, more: &[(&str, &str)]) -> Config {
    let address = redis.address();
    let mut settings = vec![
        ("LIMITS__REDIS", address.as_str()),
        ("LIMITS__REDIS_TIMEOUT", "1s"),
        ("KAFKA__GROUP", group),
    ];
    settings.extend(more);
    config(&settings)
}

async fn store(config: &Config) -> Option<Store> {
    Store::open(config).await.expect("the address can be used")
}

fn request(mobile: &str, kind: RequestType) -> OtpRequest {
    OtpRequest {
        tenant: TenantId::parse("pb.amritsar").expect("a tenant"),
        mobile: MobileNumber::parse(mobile).expect("a number"),
        kind,
        user_type: None,
        country_code: None,
        locale: None,
    }
}
