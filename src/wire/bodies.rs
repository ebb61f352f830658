//! What the egov services are asked with.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::domain::request::Submission;

/// The body for egov-user: `tenant` is the search tenant, under which the user is known.
#[must_use]
pub fn user_search_body(tenant: &str, user_type: Option<&str>, mobile: &str) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct UserSearch<'a> {
        user_name: Option<&'a str>,
        tenant_id: &'a str,
        user_type: Option<&'a str>,
        mobile_number: &'a str,
    }
    super::to_bytes(&UserSearch {
        user_name: None,
        tenant_id: tenant,
        user_type,
        mobile_number: mobile,
    })
}

/// The body for egov-otp: `identity` is the *requested* number, `tenant` the requested tenant.
#[must_use]
pub fn otp_create_body(identity: &str, tenant: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct OtpCreate<'a> {
        otp: Otp<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Otp<'a> {
        identity: &'a str,
        tenant_id: &'a str,
        is_validation_successful: bool,
    }
    super::to_bytes(&OtpCreate {
        otp: Otp {
            identity,
            tenant_id: tenant,
            is_validation_successful: false,
        },
    })
}

/// The body of a request, as upstream services publish it.
#[must_use]
pub fn request_body(submission: &Submission) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(rename = "RequestInfo")]
        request_info: RequestInfo,
        otp: Asked<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct RequestInfo {
        api_id: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        msg_id: Option<String>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Asked<'a> {
        mobile_number: Option<&'a str>,
        tenant_id: Option<&'a str>,
        r#type: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        user_type: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        country_code: Option<&'a str>,
    }
    let locale = submission.locale.as_ref();
    super::to_bytes(&Body {
        request_info: RequestInfo {
            api_id: "user-otp",
            msg_id: locale.map(|locale| format!("user-otp|{}", locale.as_str())),
        },
        otp: Asked {
            mobile_number: submission.mobile.as_deref(),
            tenant_id: submission.tenant.as_deref(),
            r#type: submission.kind.as_deref(),
            user_type: submission.user_type.as_deref(),
            country_code: submission.country_code.as_deref(),
        },
    })
}

/// The body for egov-localization; what is asked for is in its URL.
#[must_use]
pub fn texts_body() -> Vec<u8> {
    br#"{"RequestInfo":{}}"#.to_vec()
}

/// The body for egov-mdms: `tenant` is the state's.
#[must_use]
pub fn rules_body(tenant: &str, module: &str, master: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Search<'a> {
        #[serde(rename = "RequestInfo")]
        request_info: Map<String, Value>,
        #[serde(rename = "MdmsCriteria")]
        criteria: Criteria<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Criteria<'a> {
        tenant_id: &'a str,
        module_details: [Module<'a>; 1],
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Module<'a> {
        module_name: &'a str,
        master_details: [Master<'a>; 1],
    }
    #[derive(Serialize)]
    struct Master<'a> {
        name: &'a str,
    }
    super::to_bytes(&Search {
        request_info: Map::new(),
        criteria: Criteria {
            tenant_id: tenant,
            module_details: [Module {
                module_name: module,
                master_details: [Master { name: master }],
            }],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(body: Vec<u8>) -> String {
        String::from_utf8(body).expect("UTF-8")
    }

    #[test]
    fn egov_user_is_asked_by_number() {
        assert_eq!(
            text(user_search_body("pb", Some("CITIZEN"), "9876543210")),
            r#"{"userName":null,"tenantId":"pb","userType":"CITIZEN","mobileNumber":"9876543210"}"#
        );
        assert_eq!(
            text(user_search_body("pb", None, "9876543210")),
            r#"{"userName":null,"tenantId":"pb","userType":null,"mobileNumber":"9876543210"}"#
        );
    }

    #[test]
    fn egov_otp_is_asked_for_an_identity() {
        assert_eq!(
            text(otp_create_body("9876543210", "pb.amritsar")),
            r#"{"otp":{"identity":"9876543210","tenantId":"pb.amritsar","isValidationSuccessful":false}}"#
        );
    }

    #[test]
    fn a_request_that_is_written_is_read_the_same() {
        let submission = Submission {
            tenant: Some("pb.amritsar".to_owned()),
            mobile: Some("9876543210".to_owned()),
            kind: Some("login".to_owned()),
            user_type: Some("CITIZEN".to_owned()),
            country_code: Some("+91".to_owned()),
            locale: crate::domain::request::Locale::parse("hi_IN"),
            missing: None,
        };
        for submission in [submission, Submission::default()] {
            let read = Submission::decode(&request_body(&submission));
            assert!(read == Ok(submission));
        }
    }

    #[test]
    fn egov_localization_is_asked_with_an_empty_request_info() {
        assert_eq!(text(texts_body()), r#"{"RequestInfo":{}}"#);
    }

    #[test]
    fn egov_mdms_is_asked_for_one_master() {
        assert_eq!(
            text(rules_body("pb", "common-masters", "MobileNumberValidation")),
            concat!(
                r#"{"RequestInfo":{},"MdmsCriteria":{"tenantId":"pb","#,
                r#""moduleDetails":[{"moduleName":"common-masters","masterDetails":[{"name":"MobileNumberValidation"}]}]}}"#
            )
        );
    }
}
