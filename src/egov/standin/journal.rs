//! What the stand-ins were asked, for tests and people to read.

use std::collections::VecDeque;
use std::fmt;

use parking_lot::Mutex;
use serde::Serialize;
use tokio::sync::watch;

use super::super::Service;
use crate::clock::EpochMs;

/// One call to a stand-in, written down when its work was done (an OTP created), before the answer.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// Who was asked.
    #[serde(serialize_with = "as_word")]
    pub service: Service,
    /// The tenant in the body or query.
    pub tenant: Option<String>,
    /// The mobile number, of a user search or an OTP.
    pub mobile: Option<String>,
    /// The locale, of texts.
    pub locale: Option<String>,
    /// The OTP that was created.
    pub otp: Option<String>,
    /// `x-correlation-id`.
    pub correlation_id: Option<String>,
    /// `traceparent`.
    pub traceparent: Option<String>,
    /// The `tenantId` header.
    pub tenant_header: Option<String>,
    /// The script let it go wrong.
    pub faulty: bool,
    /// When.
    #[serde(serialize_with = "as_ms")]
    pub at: EpochMs,
}

impl fmt::Debug for Call {
    /// Without the number and the OTP.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("service", &self.service)
            .field("tenant", &self.tenant)
            .field("locale", &self.locale)
            .field("created", &self.otp.is_some())
            .field("correlation_id", &self.correlation_id)
            .field("faulty", &self.faulty)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// The newest calls, up to a bound.
#[derive(Debug)]
pub(super) struct Journal {
    bound: usize,
    calls: Mutex<VecDeque<Call>>,
    written: watch::Sender<()>,
}

impl Journal {
    pub(super) fn new(bound: usize) -> Self {
        Self {
            bound,
            calls: Mutex::default(),
            written: watch::Sender::new(()),
        }
    }

    /// Writes a call down; it is only made if there is a journal.
    pub(super) fn write(&self, call: impl FnOnce() -> Call) {
        if self.bound == 0 {
            return;
        }
        let call = call();
        let mut calls = self.calls.lock();
        if calls.len() == self.bound {
            calls.pop_front();
        }
        calls.push_back(call);
        drop(calls);
        self.written.send_replace(());
    }

    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().iter().cloned().collect()
    }

    /// Returns once the journal fulfils `predicate`.
    pub(super) async fn until(&self, mut predicate: impl FnMut(&[Call]) -> bool) {
        let mut written = self.written.subscribe();
        while !predicate(self.calls.lock().make_contiguous()) {
            // The sender lives as long as `self`.
            let _ = written.changed().await;
        }
    }
}

fn as_word<S: serde::Serializer>(service: &Service, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(service.as_str())
}

fn as_ms<S: serde::Serializer>(at: &EpochMs, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_i64(at.0)
}
