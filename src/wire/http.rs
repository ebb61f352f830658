//! What the HTTP door answers, byte for byte as the platform's services do.

use serde::Serialize;

use crate::domain::rejection::FieldError;

/// The body of a 201.
pub const ACCEPTED: &str = r#"{"responseInfo":null,"isSuccessful":true}"#;

/// The body of every other answer.
///
/// `code` is the status, `message` a sentence for whoever calls.
#[must_use]
pub fn error_body(code: u16, message: &str, fields: &[FieldError]) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct ErrorAnswer<'a> {
        response_info: (),
        error: Error<'a>,
    }
    #[derive(Serialize)]
    struct Error<'a> {
        code: u16,
        message: &'a str,
        description: (),
        fields: &'a [FieldError],
    }
    super::to_bytes(&ErrorAnswer {
        response_info: (),
        error: Error {
            code,
            message,
            description: (),
            fields,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_platforms_shape() {
        let body = error_body(400, "Invalid OTP request", &[FieldError::TENANT_MANDATORY]);
        assert_eq!(
            String::from_utf8(body).expect("UTF-8"),
            concat!(
                r#"{"responseInfo":null,"error":{"code":400,"message":"Invalid OTP request","description":null,"#,
                r#""fields":[{"code":"OTP.TENANT_ID_MANDATORY","message":"Tenant field is mandatory","field":"otp.tenantId"}]}}"#
            )
        );
    }
}
