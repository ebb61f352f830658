//! egov-user: who has this number?

use super::client::{Endpoint, Message, Turn};
use super::{Call, CallError};
use crate::domain::request::OtpRequest;
use crate::domain::user::User;
use crate::wire::{parse_user_answer, user_search_body};

pub(super) async fn find(
    endpoint: &Endpoint,
    request: &OtpRequest,
    call: &Call<'_>,
) -> Result<Option<User>, CallError> {
    let tenant = request.search_tenant();
    let user_type = request.user_type.as_deref();
    let body = user_search_body(tenant, user_type, request.mobile.expose());
    let message = Message::new(call, body).for_tenant(tenant);
    endpoint
        .ask(&message, Turn::InLine(call), parse_user_answer)
        .await
}
