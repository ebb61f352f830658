//! The platform's variables: what DIGIT's charts and property files already set, so that the
//! service drops into a deployment as it stands. An explicit setting of ours wins over each.

/// Variable and key. Where two set one key, the first in this list wins (the second is the
/// name that older platforms use).
pub(super) const ALIASES: &[(&str, &str)] = &[
    ("SPRING_KAFKA_BOOTSTRAP_SERVERS", "kafka.brokers"),
    ("KAFKA_CONFIG_BOOTSTRAP_SERVER_CONFIG", "kafka.brokers"),
    ("SMS_TOPIC", "topics.sms"),
    ("EMAIL_TOPIC", "topics.email"),
    ("SERVER_PORT", "http.port"),
    ("SERVER_SERVLET_CONTEXT_PATH", "http.context_path"),
    ("SERVER_CONTEXT_PATH", "http.context_path"),
    ("USER_HOST", "users.url"),
    ("SEARCH_USER_URL", "users.path"),
    ("OTP_HOST", "otp.url"),
    ("OTP_CREATE_URL", "otp.path"),
    ("EGOV_LOCALISATION_HOST", "localization.url"),
    ("EGOV_LOCALISATION_SEARCH_ENDPOINT", "localization.path"),
    (
        "EGOV_LOCALISATION_TENANTID_STRIP_SUFFIX_COUNT",
        "localization.strip_suffix_count",
    ),
    (
        "EGOV_LOCALIZATION_DEFAULT_LOCALE",
        "localization.default_locale",
    ),
    ("EGOV_LOCALIZATION_MODULE", "localization.module"),
    ("EGOV_MDMS_HOST", "mdms.url"),
    ("EGOV_MDMS_SEARCH_ENDPOINT", "mdms.path"),
    ("EGOV_MDMS_MODULE_NAME", "mdms.module"),
    ("EGOV_MDMS_MASTER_NAME", "mdms.master"),
    (
        "EGOV_MOBILE_VALIDATION_DEFAULT_REGEX",
        "rules.default_pattern",
    ),
    ("EGOV_VALIDATION_CACHE_TTL_SECONDS", "rules.ttl_seconds"),
    ("EXPIRY_TIME_FOR_OTP", "sms.expiry_ms"),
    (REDIS_HOST, "limits.redis"),
    (
        "IS_ENVIRONMENT_CENTRAL_INSTANCE",
        "tenancy.central_instance",
    ),
    ("STATE_LEVEL_TENANTID_LENGTH", "tenancy.state_level_length"),
    (
        "STATE_SCHEMA_INDEX_POSITION_TENANTID",
        "tenancy.schema_index",
    ),
];

/// Two variables make one address, `host:port`.
pub(super) const REDIS_HOST: &str = "SPRING_DATA_REDIS_HOST";
/// Means nothing without a host.
pub(super) const REDIS_PORT: &str = "SPRING_DATA_REDIS_PORT";
