//! egov-otp: a new OTP.
//!
//! A call that fails may have created one all the same; the next creates another, and nobody
//! has seen the first. Once an OTP was read nothing is asked any more.

use super::client::{Endpoint, Message, Turn};
use super::{Call, CallError};
use crate::domain::request::OtpRequest;
use crate::domain::secret::Otp;
use crate::wire::{otp_create_body, parse_otp_answer};

pub(super) async fn create(
    endpoint: &Endpoint,
    request: &OtpRequest,
    call: &Call<'_>,
) -> Result<Otp, CallError> {
    let body = otp_create_body(request.mobile.expose(), request.tenant.as_str());
    let message = Message::new(call, body);
    endpoint
        .ask(&message, Turn::InLine(call), parse_otp_answer)
        .await
}
