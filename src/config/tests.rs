use std::collections::BTreeSet;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;

use super::aliases::{ALIASES, REDIS_PORT};
use super::layers::{defaults, variable_of};
use super::*;

const DEFAULTS: &str = include_str!("../../config/default.toml");

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pairs = pairs.iter();
    pairs.map(|(n, v)| ((*n).into(), (*v).into())).collect()
}

fn load(file: &str, pairs: &[(&str, &str)]) -> Result<(Config, Effective), ConfigErrors> {
    Config::load(Some((Path::new("my.toml"), file)), env(pairs))
}

/// The one error line of a file.
fn wrong(file: &str) -> String {
    let errors = load(file, &[]).expect_err("the file is wrong");
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines[0].clone()
}

/// The one error line of one variable.
fn wrong_env(name: &str, value: &str) -> String {
    let errors = load("", &[(name, value)]).expect_err("the variable is wrong");
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    lines[0].clone()
}

#[test]
fn the_defaults_alone_are_enough() {
    let (config, _) = Config::load(None, []).expect("the defaults are valid");
    assert_eq!(config.kafka.brokers, "localhost:9092");
    assert_eq!(config.kafka.instance, "localhost");
    assert_eq!(config.topics.email, "org.egov.core.notification.email");
    assert_eq!(config.request.lifetime, Duration::from_secs(300));
    let delays = config.retry.delays.iter();
    let delays: Vec<_> = delays
        .map(|d| (d.label.as_str(), d.delay.as_secs()))
        .collect();
    assert_eq!(delays, [("5s", 5), ("30s", 30), ("2m", 120)]);
    assert_eq!(config.rules.ttl, Some(Duration::from_secs(3600)));
    assert!(config.localization.url.is_none() && config.mdms.url.is_none());
    assert_eq!(config.texts.pinned_locales, ["en_IN"]);
}

#[test]
fn every_default_is_read_and_every_key_has_a_default() {
    let (_, effective) = Config::load(None, []).expect("the defaults are valid");
    let read: Vec<&str> = effective.iter().map(|s| s.key.as_str()).collect();
    let once: BTreeSet<&str> = read.iter().copied().collect();
    assert_eq!(read.len(), once.len(), "a key is read twice");
    let defaults = defaults();
    let written: BTreeSet<&str> = defaults.keys().map(String::as_str).collect();
    assert_eq!(once, written);
}

#[test]
fn keys_are_read_in_the_order_of_the_file() {
    let (_, effective) = Config::load(None, []).expect("the defaults are valid");
    let bare = |line: &str| line.split_once(" = ").map(|(key, _)| key.trim().to_owned());
    let is_key = |line: &&str| !line.starts_with('#');
    let written: Vec<String> = DEFAULTS.lines().filter(is_key).filter_map(bare).collect();
    let printed = effective.to_string();
    let read: Vec<String> = printed.lines().filter(is_key).filter_map(bare).collect();
    assert_eq!(read, written);
}

#[test]
fn every_default_has_a_comment() {
    let lines: Vec<&str> = DEFAULTS.lines().collect();
    for pair in lines.windows(2) {
        let key = !pair[1].starts_with('#') && pair[1].contains(" = ");
        assert!(!key || pair[0].starts_with('#'), "no comment: {}", pair[1]);
    }
}

#[test]
fn every_alias_stands_in_the_comment_of_its_key() {
    let (mut section, mut comment) = (String::new(), String::new());
    let mut documented = BTreeSet::new();
    for line in DEFAULTS.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push_str(text);
            continue;
        }
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        }
        if let Some((key, _)) = line.split_once(" = ") {
            let words = comment.split(|c: char| !c.is_ascii_uppercase() && c != '_');
            let names = words.filter(|word| word.len() > 3 && word.contains('_'));
            documented.extend(names.map(|name| (name.to_owned(), format!("{section}.{key}"))));
        }
        comment.clear();
    }
    let aliases = ALIASES
        .iter()
        .chain(&[(REDIS_PORT, "limits.redis")])
        .map(|(n, k)| ((*n).to_owned(), (*k).to_owned()));
    assert_eq!(documented, aliases.collect());
}

#[test]
fn a_later_layer_wins_key_by_key() {
    let variables = [
        ("SMS_TOPIC", "from.alias"),
        ("EMAIL_TOPIC", "email.from.alias"),
        ("SERVER_PORT", "1"),
        ("USER_OTP__HTTP__PORT", "3"),
    ];
    let file = "[topics]\nsms = \"from.file\"\n[http]\nport = 2\n[engine]\nwindow = 99\n";
    let (config, effective) = load(file, &variables).expect("all of it is valid");
    let origin = |key: &str| effective.origin(key).expect("it is read").to_string();

    assert_eq!(config.topics.sms, "from.file");
    assert_eq!(origin("topics.sms"), "file my.toml, line 2");
    assert_eq!(config.topics.email, "email.from.alias");
    assert_eq!(origin("topics.email"), "alias EMAIL_TOPIC");
    assert_eq!(config.http.port, 3);
    assert_eq!(origin("http.port"), "environment USER_OTP__HTTP__PORT");
    assert_eq!(config.engine.window, 99);
    assert_eq!(origin("engine.window"), "file my.toml, line 6");
    assert_eq!(origin("engine.lane"), "default");
}

#[rstest]
#[case(
    "SPRING_KAFKA_BOOTSTRAP_SERVERS",
    "kafka-v2.backbone:9092",
    r#""kafka-v2.backbone:9092""#
)]
#[case(
    "KAFKA_CONFIG_BOOTSTRAP_SERVER_CONFIG",
    "kafka:9092",
    r#""kafka:9092""#
)]
#[case("SMS_TOPIC", "a.topic", r#""a.topic""#)]
#[case("EMAIL_TOPIC", "a.topic", r#""a.topic""#)]
#[case("SERVER_PORT", "8080", "8080")]
#[case("SERVER_SERVLET_CONTEXT_PATH", "/otp/", r#""/otp""#)]
#[case("SERVER_CONTEXT_PATH", "otp", r#""/otp""#)]
#[case(
    "USER_HOST",
    "http://egov-user.egov:8080/",
    r#""http://egov-user.egov:8080/""#
)]
#[case("SEARCH_USER_URL", "user/_search", r#""/user/_search""#)]
#[case(
    "OTP_HOST",
    "http://egov-otp:8080/otp",
    r#""http://egov-otp:8080/otp""#
)]
#[case("OTP_CREATE_URL", "/v2/_create", r#""/v2/_create""#)]
#[case("EGOV_LOCALISATION_HOST", "http://texts:1", r#""http://texts:1/""#)]
#[case("EGOV_LOCALISATION_SEARCH_ENDPOINT", "/texts", r#""/texts""#)]
#[case("EGOV_LOCALISATION_TENANTID_STRIP_SUFFIX_COUNT", "-1", "-1")]
#[case("EGOV_LOCALIZATION_DEFAULT_LOCALE", "hi_IN", r#""hi_IN""#)]
#[case("EGOV_LOCALIZATION_MODULE", "texts", r#""texts""#)]
#[case("EGOV_MDMS_HOST", "https://mdms", r#""https://mdms/""#)]
#[case(
    "EGOV_MDMS_SEARCH_ENDPOINT",
    "/mdms-v2/v1/_search",
    r#""/mdms-v2/v1/_search""#
)]
#[case("EGOV_MDMS_MODULE_NAME", "ValidationConfigs", r#""ValidationConfigs""#)]
#[case("EGOV_MDMS_MASTER_NAME", "rules", r#""rules""#)]
#[case(
    "EGOV_MOBILE_VALIDATION_DEFAULT_REGEX",
    "^[0-9]{9}$",
    r#""^[0-9]{9}$""#
)]
#[case("EGOV_VALIDATION_CACHE_TTL_SECONDS", "0", "0")]
#[case("EXPIRY_TIME_FOR_OTP", "3000", "3000")]
#[case(
    "SPRING_DATA_REDIS_HOST",
    "redis.backbone",
    r#""redis://redis.backbone""#
)]
#[case("IS_ENVIRONMENT_CENTRAL_INSTANCE", "TRUE", "true")]
#[case("STATE_LEVEL_TENANTID_LENGTH", "2", "2")]
#[case("STATE_SCHEMA_INDEX_POSITION_TENANTID", "0", "0")]
fn an_alias_sets_its_key(#[case] name: &str, #[case] value: &str, #[case] shown: &str) {
    let (_, key) = ALIASES.iter().find(|(n, _)| *n == name).expect("an alias");
    let (_, effective) = load("", &[(name, value)]).expect("the value is valid");
    let setting = effective
        .iter()
        .find(|s| s.key == *key)
        .expect("it is read");
    assert_eq!(setting.value.to_string(), shown);
    assert_eq!(
        setting.origin,
        Origin::Alias(ALIASES.iter().find(|(n, _)| *n == name).unwrap().0)
    );
}

#[test]
fn of_two_aliases_of_one_key_the_newer_name_wins() {
    let both = [
        ("KAFKA_CONFIG_BOOTSTRAP_SERVER_CONFIG", "old:1"),
        ("SPRING_KAFKA_BOOTSTRAP_SERVERS", "new:1"),
        ("SERVER_CONTEXT_PATH", "/old"),
        ("SERVER_SERVLET_CONTEXT_PATH", "/new"),
    ];
    let (config, _) = load("", &both).expect("all of it is valid");
    assert_eq!(config.kafka.brokers, "new:1");
    assert_eq!(config.http.context_path, "/new");
}

#[test]
fn an_empty_alias_is_as_good_as_none() {
    let (config, effective) = load("", &[("SMS_TOPIC", " "), ("USER_HOST", "")]).expect("valid");
    assert_eq!(config.topics.sms, "egov.core.notification.sms.otp");
    assert_eq!(effective.origin("users.url"), Some(&Origin::Default));
}

#[rstest]
#[case::no_class_of_java("[[:digit:]]{10}", false)]
#[case::over_a_bound("([0-9]{1000}){1000}", false)]
#[case::quoted(r"\Q+\E[0-9]{10}", true)]
#[case::look_around("(?=[6-9])[0-9]{10}(?<![5])", true)]
#[case::possessive("[6-9]++[0-9]*+", true)]
fn the_default_pattern_is_taken_as_numbers_are_judged_by_it(
    #[case] pattern: &str,
    #[case] usable: bool,
) {
    let given = [("USER_OTP__RULES__DEFAULT_PATTERN", pattern)];
    assert_eq!(load("", &given).is_ok(), usable);
}

#[test]
fn a_newline_at_the_end_of_a_variable_is_left_out_and_said() {
    let given = [
        ("USER_OTP__KAFKA__SASL_USERNAME", "asha\n"),
        (
            "EGOV_MOBILE_VALIDATION_DEFAULT_REGEX",
            "^[6-9][0-9]{9}$\r\n",
        ),
        ("USER_OTP__KAFKA__GROUP", "g"),
        ("OTHERS", "theirs\n"),
    ];
    let (config, effective) = load("", &given).expect("valid");
    assert_eq!(config.rules.default_pattern, "^[6-9][0-9]{9}$");
    assert_eq!(config.kafka.properties.get("sasl.username"), Some("asha"));
    let said = [
        "EGOV_MOBILE_VALIDATION_DEFAULT_REGEX",
        "USER_OTP__KAFKA__SASL_USERNAME",
    ];
    assert_eq!(effective.with_newline, said);
}

#[test]
fn an_empty_variable_of_ours_switches_an_address_off() {
    let file = "[mdms]\nurl = \"http://mdms\"\n";
    let (config, _) = load(file, &[("USER_OTP__MDMS__URL", "")]).expect("valid");
    assert!(config.mdms.url.is_none());
}

#[test]
fn redis_has_the_charts_host_and_port() {
    let both = [
        ("SPRING_DATA_REDIS_HOST", "redis.backbone"),
        ("SPRING_DATA_REDIS_PORT", "7000"),
    ];
    let (config, effective) = load("", &both).expect("all of it is valid");
    let url = config.limits.redis.expect("there is one");
    assert_eq!(url.expose(), "redis://redis.backbone:7000");
    let origin = effective.origin("limits.redis").expect("it is read");
    assert_eq!(origin.to_string(), "alias SPRING_DATA_REDIS_HOST");
    let (config, _) = load("", &both[1..]).expect("a port alone means nothing");
    assert!(config.limits.redis.is_none());
}

#[test]
fn secrets_of_the_limits_are_not_printed() {
    let file = "[limits]\nredis = \"redis://me:sesame@h:1/2\"\nkey = \"sesame\"\n";
    let (config, effective) = load(file, &[]).expect("valid");
    let printed = format!("{effective} {config:?}");
    assert!(!printed.contains("sesame"), "{printed}");
    assert!(printed.contains(r#"redis = "redis://***:***@h:1/2""#));
    let wrong = wrong("limits.redis = \"http://me:sesame@h\"");
    assert!(!wrong.contains("sesame"), "{wrong}");
}

#[rstest]
#[case(
    "USER_OTP__RETRY__DELAYS",
    "1s, 500s",
    "retry.delays: 500s is not shorter than request.lifetime: it would never end (environment USER_OTP__RETRY__DELAYS; request.lifetime: default)"
)]
#[case("USER_OTP__REQUEST__LIFETIME", "300", r#"request.lifetime: 300 has no unit: write "300s" for seconds, "300ms" for milliseconds (environment USER_OTP__REQUEST__LIFETIME)"#)]
#[case(
    "USER_OTP__TOPICS__CREATE",
    "maybe",
    r#"topics.create: must be true or false, not "maybe" (environment USER_OTP__TOPICS__CREATE)"#
)]
#[case(
    "USER_OTP__TOPIC__SMS",
    "x",
    "topic.sms: is no setting; did you mean USER_OTP__TOPICS__SMS? (environment USER_OTP__TOPIC__SMS)"
)]
#[case(
    "USER_OTP__KAFKA__BROKER",
    "x:1",
    "kafka.broker: is no setting; did you mean USER_OTP__KAFKA__BROKERS? (environment USER_OTP__KAFKA__BROKER)"
)]
#[case(
    "USER_OTP__KAFKA__STARTUP_TIMEOUTS",
    "5s",
    "kafka.startup.timeouts: is no setting; did you mean USER_OTP__KAFKA__STARTUP_TIMEOUT? (environment USER_OTP__KAFKA__STARTUP_TIMEOUTS)"
)]
#[case(
    "USER_OTP__X",
    "x",
    "x: is no setting of user-otp (environment USER_OTP__X)"
)]
#[case(
    "USER_OTP__",
    "x",
    ": is no setting of user-otp (environment USER_OTP__)"
)]
#[case(
    "USER_OTP__KAFKA__ISOLATION_LEVEL",
    "read_uncommitted",
    "kafka.isolation.level: is not free: committed_offsets waits for pending transactions only under read_committed (environment USER_OTP__KAFKA__ISOLATION_LEVEL)"
)]
#[case(
    "SERVER_PORT",
    "tcp://10.0.0.1:80",
    r#"http.port: must be a whole number, not "tcp://10.0.0.1:80" (alias SERVER_PORT)"#
)]
#[case(
    "USER_HOST",
    "egov-user:8080",
    "users.url: must begin with http:// or https:// (alias USER_HOST)"
)]
#[case("EMAIL_TOPIC", "egov.core.notification.sms.otp", r#"topics.email: is the same topic as topics.sms, "egov.core.notification.sms.otp" (alias EMAIL_TOPIC; topics.sms: default)"#)]
fn a_wrong_variable_is_named(#[case] name: &str, #[case] value: &str, #[case] line: &str) {
    assert_eq!(wrong_env(name, value), line);
}

#[rstest]
// Types.
#[case("http.port = 70000", "http.port: must be from 0 to 65535, not 70000")]
#[case(
    "http.port = \"8090\"",
    r#"http.port: must be a whole number, not "8090""#
)]
#[case(
    "topics.create = \"true\"",
    r#"topics.create: must be true or false, not "true""#
)]
#[case("topics.sms = 5", "topics.sms: must be text, not 5")]
#[case(
    "request.lifetime = 300",
    r#"request.lifetime: 300 has no unit: write "300s" for seconds, "300ms" for milliseconds"#
)]
#[case(
    "request.lifetime = \"soon\"",
    r#"request.lifetime: must be a duration such as "5s", not "soon""#
)]
#[case(
    "request.lifetime = true",
    r#"request.lifetime: must be a duration such as "5s", not true"#
)]
#[case(
    "engine.linger = \"5s\"",
    r#"engine.linger: must be from 0s to 1s, not "5s""#
)]
#[case(
    "rules.country_codes = \"+91\"",
    r#"rules.country_codes: must be a list of texts, not "+91""#
)]
#[case(
    "rules.country_codes = [91]",
    "rules.country_codes: must be a list of texts, not a list"
)]
#[case(
    "rules.country_codes = [\"+091\"]",
    r#"rules.country_codes: must be a country code such as "+91", not "+091""#
)]
#[case(
    "services.outage_messages = [\"\"]",
    "services.outage_messages: must have no empty entry"
)]
#[case(
    "http.trusted_proxies = [\"10.0.0.1\", \"gateway\"]",
    r#"http.trusted_proxies: must be addresses or networks such as "10.0.0.0/8", not "gateway""#
)]
#[case(
    "log.format = \"xml\"",
    r#"log.format: must be text or json, not "xml""#
)]
#[case(
    "log.level = \"=,=\"",
    r#"log.level: must be a level such as "info" or "info,user_otp=debug", not "=,=""#
)]
#[case(
    "texts.on_outage = \"drop\"",
    r#"texts.on_outage: must be retry or default, not "drop""#
)]
#[case(
    "engine.window = 99999999999999999999",
    "engine.window: is a number too large to read"
)]
// Texts that name something.
#[case(
    "kafka.brokers = \"kafka\"",
    r#"kafka.brokers: must be host:port, several separated by commas, and one is "kafka""#
)]
#[case(
    "kafka.brokers = \"a:1,b:0\"",
    r#"kafka.brokers: must be host:port, several separated by commas, and one is "b:0""#
)]
#[case(
    "kafka.group = \"\"",
    r#"kafka.group: must be 1 to 200 of letters, digits and . _ -, and is """#
)]
#[case(
    "kafka.instance = \"a-http\"",
    r#"kafka.instance: must not end in -http, as the HTTP door's own transactional id does, and is "a-http""#
)]
#[case(
    "kafka.instance = \"a b\"",
    r#"kafka.instance: must be 1 to 200 of letters, digits and . _ -, and is "a b""#
)]
#[case("topics.sms = \"sms topic\"", r#"topics.sms: must be a topic's name, 1 to 249 of letters, digits and . _ -, and is "sms topic""#)]
#[case(
    "topics.sms = \"..\"",
    r#"topics.sms: must be a topic's name, 1 to 249 of letters, digits and . _ -, and is "..""#
)]
#[case(
    "users.url = \"ftp://x\"",
    "users.url: must begin with http:// or https://"
)]
#[case(
    "users.url = \"http://x/?q=1\"",
    "users.url: must have no query (?) and no fragment (#)"
)]
#[case(
    "users.url = \"\"",
    "users.url: is not a URL: relative URL without a base"
)]
#[case(
    "users.path = \"/a?b\"",
    r#"users.path: must be a path such as "/v1/_search", not "/a?b""#
)]
#[case(
    "http.context_path = \"/ä\"",
    r#"http.context_path: must be letters, digits and - _ . ~ between slashes, not "/ä""#
)]
#[case(
    "localization.default_locale = \"en-IN\"",
    r#"localization.default_locale: must be a locale such as "en_IN", not "en-IN""#
)]
#[case(
    "localization.module = \" \"",
    "localization.module: must not be empty"
)]
#[case(
    "rules.default_pattern = \"[0-9\"",
    r#"rules.default_pattern: must be a regular expression in Java's dialect, and "[0-9" is none"#
)]
// Retry's tiers.
#[case("retry.delays = []", "retry.delays: must have 1 to 10 delays, not 0")]
#[case(
    "retry.delays = [\"30s\", \"5s\"]",
    "retry.delays: must go from short to long: 5s is not longer than 30s before it"
)]
#[case(
    "retry.delays = [\"60s\", \"1m\"]",
    "retry.delays: must go from short to long: 1m is not longer than 60s before it"
)]
#[case(
    "retry.delays = [\"5\"]",
    r#"retry.delays: 5 has no unit: write "5s" for seconds, "5ms" for milliseconds"#
)]
#[case(
    "retry.delays = [\"1m 30s\"]",
    r#"retry.delays: "1m 30s" is part of a topic's name: write it in letters and digits alone"#
)]
// librdkafka's properties.
#[case(
    "kafka.\"enable.auto.commit\" = true",
    "kafka.enable.auto.commit: is not free: offsets are committed in the transaction of their results"
)]
#[case(
    "kafka.transactional.id = \"x\"",
    "kafka.transactional.id: is not free: it is made of kafka.group and kafka.instance"
)]
#[case(
    "kafka.acks = 1",
    "kafka.acks: is not free: a transaction needs every in-sync replica"
)]
#[case(
    "kafka.\"max.in.flight\" = 6",
    "kafka.max.in.flight: must be from 1 to 5: beyond, order is lost when a send is repeated"
)]
#[case(
    "kafka.\"client.rack\" = [1]",
    "kafka.client.rack: must be text, a number, or true or false"
)]
// Unknown.
#[case(
    "topics.smss = \"x\"",
    "topics.smss: is no setting; did you mean topics.sms?"
)]
#[case(
    "topic.sms = \"x\"",
    "topic.sms: is no setting; did you mean topics.sms?"
)]
#[case(
    "kafka.brokers.list = \"x\"",
    "kafka.brokers.list: is no setting; did you mean kafka.brokers?"
)]
#[case(
    "kafka.security_protocol = \"x\"",
    "kafka.security_protocol: is no setting of user-otp"
)]
#[case("redis.url = \"x\"", "redis.url: is no setting of user-otp")]
#[case("limits.redis = \"redis://\"", "limits.redis: must have a host")]
#[case(
    "limits.redis = \"h:1/db\"",
    "limits.redis: must have a database's number, or nothing, after the host"
)]
#[case("metrics = {}", "metrics: is no setting of user-otp")]
#[case(
    "http = 8090",
    "http: is a section: write [http] and its settings below"
)]
#[case(
    "http.port.x = 1",
    "http.port.x: is no setting; did you mean http.port?"
)]
fn a_wrong_value_is_named(#[case] file: &str, #[case] line: &str) {
    assert_eq!(wrong(file), format!("{line} (file my.toml, line 1)"));
}

#[rstest]
#[case(
    "[request]\nmin_life = \"5m\"",
    "request.min_life: must be shorter than request.lifetime: no request would ever be served (file my.toml, line 2; request.lifetime: default)"
)]
#[case(
    "[engine]\nenabled = false\n[http]\nenabled = false",
    "engine.enabled: nothing to run: one of the two must be enabled (file my.toml, line 2; http.enabled: file my.toml, line 4)"
)]
#[case(
    "[http]\nbudget = \"20s\"",
    "shutdown.deadline: must be longer than http.body_timeout and twice http.budget and http.confirm_timeout together, 55s: requests under way would not be answered (default; http.budget: file my.toml, line 2)"
)]
#[case(
    "[request]\nlifetime = \"3s\"\nmin_life = \"1s\"\n[retry]\ndelays = [\"1s\"]",
    "http.budget: must be shorter than request.lifetime: what is handed over would be too late (default; request.lifetime: file my.toml, line 2)"
)]
#[case(
    "[http]\nidempotency_window = \"8s\"",
    "http.idempotency_window: must be longer than http.budget and http.confirm_timeout together, 8s: a key would be forgotten before its request is answered (file my.toml, line 2; http.budget: default)"
)]
#[case(
    "[limits]\naddress = \"on\"",
    "limits.address: counts nobody: no client's address is known without http.trusted_proxies (file my.toml, line 2; http.trusted_proxies: default)"
)]
#[case(
    "[engine]\nwindow_bytes = 1000",
    "engine.window_bytes: must hold one largest record, 1048576, and is 1000 (file my.toml, line 2)"
)]
#[case(
    "[http]\nenabled = false\n[shutdown]\ndeadline = \"3s\"",
    "engine.drain: must be shorter than shutdown.deadline: nothing would be committed (default; shutdown.deadline: file my.toml, line 4)"
)]
#[case(
    "[management]\nport = 8090",
    "management.port: is taken by http.port, 8090 (file my.toml, line 2; http.port: default)"
)]
#[case(
    "[services]\nbackoff = \"1s\"",
    "services.backoff: must not be longer than services.backoff_max (file my.toml, line 2; services.backoff_max: default)"
)]
#[case("[topics]\njob_log = \"user-otp_dlq\"", r#"topics.job_log: is the same topic as topics.dead_letters, "user-otp_dlq" (file my.toml, line 2; topics.dead_letters: default)"#)]
#[case("[topics]\njobs = \"user-otp.retry.jobs\"", r#"topics.jobs: "user-otp.retry.jobs" would be read as a retry topic, user-otp.retry.* (file my.toml, line 2; topics.retry_prefix: default)"#)]
#[case("[tenancy]\ncentral_instance = true\n[topics]\nsms = \"sms\"\nrequests = \"pb-sms\"", r#"topics.requests: "pb-sms" could be a tenant's topics.sms, *-sms (file my.toml, line 5; topics.sms: file my.toml, line 4)"#)]
#[case(
    "[tenancy]\ncentral_instance = true\n[topics]\nsms = \"x.7s\"\nretry_prefix = \"pb-x\"",
    "topics.sms: *-x.7s, of a tenant, could be a retry topic, pb-x.* (file my.toml, line 4; topics.retry_prefix: file my.toml, line 5)"
)]
fn a_contradiction_names_both_sides(#[case] file: &str, #[case] line: &str) {
    assert_eq!(wrong(file), line);
}

#[rstest]
#[case::http("pod-http", "pod_http")]
#[case::check("a-check", "a_check")]
#[case::job("job-7", "job_7")]
#[case::both("job-7-http", "job_7_http")]
#[case::statefulset("otp-http-0", "otp-http-0")]
fn no_host_name_makes_another_ones_transactional_id(#[case] host: &str, #[case] instance: &str) {
    let (config, _) = load("", &[("HOSTNAME", host)]).expect("any host name is taken");
    assert_eq!(config.kafka.instance, instance);
    assert!(super::checks::instance(instance).is_ok());
}

#[test]
fn a_retry_prefix_that_is_too_long_with_its_delays_is_refused() {
    let line = wrong(&format!("[topics]\nretry_prefix = \"{}\"", "r".repeat(247)));
    let problem = "is too long: with a delay's name it is over Kafka's 249 characters";
    let origin = "(file my.toml, line 2; retry.delays: default)";
    assert_eq!(line, format!("topics.retry_prefix: {problem} {origin}"));
}

#[test]
fn all_wrong_settings_are_reported_at_once() {
    let file = "[http]\nport = -1\n[topics]\nsmss = \"x\"\n[request]\nmin_life = \"1h\"\n";
    let variables = [
        ("SERVER_PORT", "overridden, so not looked at"),
        ("OTP_HOST", "nowhere"),
    ];
    let errors = load(file, &variables).expect_err("four are wrong");
    assert_eq!(
        errors.to_string(),
        "4 settings are wrong:\n  \
         http.port: must be from 0 to 65535, not -1 (file my.toml, line 2)\n  \
         otp.url: is not a URL: relative URL without a base (alias OTP_HOST)\n  \
         request.min_life: must be shorter than request.lifetime: no request would ever be served \
         (file my.toml, line 6; request.lifetime: default)\n  \
         topics.smss: is no setting; did you mean topics.sms? (file my.toml, line 4)"
    );
}

#[test]
fn a_contradiction_with_a_wrong_setting_is_not_reported() {
    let line = wrong("[request]\nlifetime = \"x\"\nmin_life = \"10m\"");
    assert!(
        line.starts_with("request.lifetime: must be a duration"),
        "{line}"
    );
}

#[test]
fn what_is_not_toml_is_named_by_its_line() {
    let errors = load("[http]\nport = \n", &[("OTP_HOST", "nowhere")]).expect_err("both wrong");
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), 2, "{lines:#?}");
    assert!(lines[0].starts_with("not TOML: "), "{lines:#?}");
    assert!(lines[0].ends_with("(file my.toml, line 2)"), "{lines:#?}");
    assert!(lines[1].starts_with("otp.url: "), "{lines:#?}");
}

#[test]
fn one_setting_in_two_spellings_is_an_error() {
    let line = wrong("[kafka]\nclient.rack = \"a\"\n\"client.rack\" = \"b\"\n");
    assert!(
        line.starts_with("kafka.client.rack: is set more than once"),
        "{line}"
    );
    let twice = [
        ("USER_OTP__KAFKA__SSL_CA_PEM", "a"),
        ("USER_OTP__KAFKA__SSL__CA_PEM", "b"),
    ];
    assert!(load("", &twice).is_err());
}

#[test]
fn bytes_that_are_not_text_are_an_error_only_where_they_are_ours() {
    let odd = || OsString::from_vec(vec![b'a', 0xff]);
    let load = |name: OsString| Config::load_os(None, [(name, odd())].into_iter());
    assert!(load("PATH".into()).is_ok());
    assert!(load(odd()).is_ok());
    assert!(load("HOSTNAME".into()).is_ok());
    for (name, line) in [
        (
            "SMS_TOPIC",
            "topics.sms: must be text, not bytes that are not UTF-8 (alias SMS_TOPIC)",
        ),
        (
            "USER_OTP__KAFKA__SASL_PASSWORD",
            "kafka.sasl.password: is not UTF-8 (environment USER_OTP__KAFKA__SASL_PASSWORD)",
        ),
    ] {
        let errors = load(name.into()).expect_err("it is ours");
        assert_eq!(errors.to_string(), format!("1 setting is wrong:\n  {line}"));
    }
}

#[test]
fn properties_of_librdkafka_come_from_file_and_environment() {
    let file = "[kafka]\n\"security.protocol\" = \"SASL_SSL\"\nsasl.mechanism = \"PLAIN\"\n\
                debug = \"eos\"\n\"session.timeout.ms\" = 20000\n\"socket.keepalive.enable\" = true\n";
    let variables = [
        ("USER_OTP__KAFKA__SASL_PASSWORD", " hidden "),
        ("USER_OTP__KAFKA__SESSION_TIMEOUT_MS", "30000"),
        ("USER_OTP__KAFKA__GROUP_PROTOCOL", "consumer"),
    ];
    let (config, _) = load(file, &variables).expect("all of it is valid");
    let properties: Vec<_> = config.kafka.properties.iter().collect();
    assert_eq!(
        properties,
        [
            ("debug", "eos"),
            ("group.protocol", "consumer"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.password", " hidden "),
            ("security.protocol", "SASL_SSL"),
            ("session.timeout.ms", "30000"),
            ("socket.keepalive.enable", "true"),
        ]
    );
    assert_eq!(config.kafka.properties.get("debug"), Some("eos"));
}

#[rstest]
fn what_the_guarantee_depends_on_is_not_free(
    #[values(
        "acks",
        "allow.auto.create.topics",
        "auto.offset.reset",
        "bootstrap.servers",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.idempotence",
        "enable.partition.eof",
        "group.id",
        "isolation.level",
        "metadata.broker.list",
        "partition.assignment.strategy",
        "partitioner",
        "request.required.acks",
        "transactional.id"
    )]
    name: &str,
) {
    let line = wrong(&format!("kafka.\"{name}\" = \"x\""));
    assert!(
        line.starts_with(&format!("kafka.{name}: is not free: ")),
        "{line}"
    );
    let line = wrong_env(&variable_of(&format!("kafka.{name}")), "x");
    assert!(
        line.starts_with(&format!("kafka.{name}: is not free: ")),
        "{line}"
    );
}

#[test]
fn a_message_stays_in_its_line_whatever_is_in_a_name() {
    let line = wrong_env("USER_OTP__A\nB", "x");
    assert_eq!(
        line,
        "a\\nb: is no setting of user-otp (environment USER_OTP__A\\nB)"
    );
    let path = Path::new("a\nb.toml");
    let (_, effective) = Config::load(Some((path, "engine.lane = 5")), []).expect("valid");
    let origin = effective.origin("engine.lane").map(ToString::to_string);
    assert_eq!(origin.as_deref(), Some("file a\\nb.toml, line 1"));
}

#[rstest]
#[case("pod-7f9c", "pod-7f9c")]
#[case("my host!", "my-host-")]
#[case("", "localhost")]
fn the_instance_is_the_host_by_default(#[case] host: &str, #[case] instance: &str) {
    let (config, effective) = load("", &[("HOSTNAME", host)]).expect("valid");
    assert_eq!(config.kafka.instance, instance);
    assert_eq!(effective.origin("kafka.instance"), Some(&Origin::HostName));
    let (config, _) = load("kafka.instance = \"blue\"", &[("HOSTNAME", host)]).expect("valid");
    assert_eq!(config.kafka.instance, "blue");
}

#[rstest]
#[case("http://h:1/", "/user/_search", "http://h:1/user/_search")]
#[case("http://h:1/otp", "/v1/_create", "http://h:1/otp/v1/_create")]
#[case("http://h:1/otp/", "v1/_create", "http://h:1/otp/v1/_create")]
fn base_and_path_meet_in_one_slash(#[case] base: &str, #[case] path: &str, #[case] all: &str) {
    let base = ServiceUrl::parse(base).expect("valid");
    assert_eq!(base.endpoint(path).as_str(), all);
}

#[test]
fn the_examples_are_valid_and_hold_only_differences() {
    for text in [
        include_str!("../../config/tls.toml"),
        include_str!("../../config/central-instance.toml"),
    ] {
        let (_, effective) = load(text, &[]).expect("the example is valid");
        let from_file = |s: &&Setting| matches!(s.origin, Origin::File { .. });
        assert!(effective.iter().any(|s| from_file(&s)));
    }
}

#[test]
fn the_printed_defaults() {
    let (_, effective) = load("", &[("HOSTNAME", "pod-1")]).expect("valid");
    insta::assert_snapshot!(crate::ops::config::text(&effective));
}

#[test]
fn the_printed_configuration_names_sources_and_masks_secrets() {
    let file = "[users]\nurl = \"http://me:s3cret@egov-user:8080/\"\n\
                [kafka]\n\"sasl.username\" = \"otp\"\n\"sasl.password\" = \"s3cret\"\n";
    let variables = [
        ("SERVER_PORT", "8080"),
        ("USER_OTP__KAFKA__SSL_KEY_PASSWORD", "s3cret"),
    ];
    let (_, effective) = load(file, &variables).expect("valid");
    let printed = effective.to_string();
    let settings = printed
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let changed: Vec<String> = settings
        .map(|words| words.join(" "))
        .filter(|line| !line.contains("# default") && line.contains('#'))
        .collect();
    assert_eq!(
        changed,
        [
            r#""sasl.password" = "***" # file my.toml, line 5"#,
            r#""sasl.username" = "otp" # file my.toml, line 4"#,
            r#""ssl.key.password" = "***" # environment USER_OTP__KAFKA__SSL_KEY_PASSWORD"#,
            r#"port = 8080 # alias SERVER_PORT"#,
            r#"url = "http://***:***@egov-user:8080/" # file my.toml, line 2"#,
        ]
    );
}

const MARKER: &str = "Zq7mark3r";

/// Wherever a secret may be put, right or wrong, it is not seen again.
#[rstest]
#[case("kafka.\"sasl.password\" = \"MARK\"")]
#[case("kafka.\"sasl.password\" = [\"MARK\"]")]
#[case("kafka.\"sasl.pasword\" = \"MARK\"")]
#[case("kafka.\"ssl.key.password\" = \"MARK\"")]
#[case("kafka.\"ssl.key.pem\" = \"MARK\"")]
#[case("kafka.\"ssl.keystore.password\" = \"MARK\"")]
#[case("kafka.\"sasl.jaas.config\" = \"MARK\"")]
#[case("kafka.\"sasl.oauthbearer.config\" = \"MARK\"")]
#[case("kafka.\"sasl.oauthbearer.client.secret\" = \"MARK\"")]
#[case("kafka.\"sasl.oauthbearer.assertion.private.key.passphrase\" = \"MARK\"")]
#[case("kafka.\"my.token\" = \"MARK\"")]
#[case("kafka.\"max.in.flight\" = \"MARK\"")]
#[case("kafka.sasl_password = \"MARK\"")]
#[case("kafka.password = \"MARK\"")]
#[case("sasl.password = \"MARK\"")]
#[case("kafka.\"sasl.password\" = \"MARK")]
#[case("kafka.\"sasl.password\" = MARK")]
#[case("kafka = \"MARK\"")]
#[case("users.url = \"http://u:MARK@host/\"")]
#[case("users.url = \"http://MARK@host/\"")]
#[case("users.url = \"http://u:MARK@ho st/\"")]
#[case("users.url = \"http://u:MARK@host/?q\"")]
#[case("users.url = [\"MARK\"]")]
#[case("mdms.url = \"MARK\"")]
#[case("otp.url = \"u:MARK@host\"")]
#[case("localization.url = \"https://u:MARK@host:99999/\"")]
fn a_secret_is_never_printed(#[case] file: &str) {
    let check = |loaded: Result<(Config, Effective), ConfigErrors>| {
        let seen = match loaded {
            Ok((config, effective)) => format!("{config:?}{config:#?}{effective:?}{effective}"),
            Err(errors) => format!("{errors:?}{errors}"),
        };
        assert!(!seen.contains(MARKER), "{seen}");
    };
    let file = file.replace("MARK", MARKER);
    check(load(&file, &[]));
    check(load(&file, &[("SERVER_PORT", "x")]));
    if let Some((key, value)) = file.split_once(" = ") {
        let (key, value) = (key.replace('"', ""), value.replace(['"', '[', ']'], ""));
        check(load("", &[(&variable_of(&key), &value)]));
        check(load(
            "",
            &[(&variable_of(&key), &value), ("SERVER_PORT", "x")],
        ));
    }
}

#[test]
fn a_file_that_cannot_be_read_is_one_error() {
    let missing = Path::new("/nowhere/user-otp.toml");
    let errors = Config::from_process(Some(missing)).expect_err("it is not there");
    let lines = errors.to_string();
    assert!(
        lines.contains("--config: cannot read /nowhere/user-otp.toml: "),
        "{lines}"
    );
    assert!(lines.ends_with("(command line)"), "{lines}");
}

#[test]
fn the_process_has_a_host_name_and_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("mine.toml");
    std::fs::write(&path, "[topics]\nsms = \"from.file\"\n").expect("written");
    let (config, _) = Config::from_process(Some(&path)).expect("valid");
    assert_eq!(config.topics.sms, "from.file");
    assert!(!config.kafka.instance.is_empty());
}

/// Names that mean something, so that values reach every kind of setting.
fn variable() -> impl Strategy<Value = String> {
    let keys = defaults().into_keys().map(|key| variable_of(&key));
    let aliases = ALIASES.iter().map(|(name, _)| (*name).to_owned());
    let known: Vec<String> = keys.chain(aliases).chain(["HOSTNAME".to_owned()]).collect();
    prop_oneof![
        8 => prop::sample::select(known),
        1 => "USER_OTP__KAFKA__[A-Z_.]{0,20}",
        1 => "USER_OTP__\\PC{0,20}",
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<String>().prop_map(String::into_bytes),
        any::<Vec<u8>>(),
        "[0-9]{1,25}(ns|us|ms|s|m|h|days|years|)( [0-9]{1,20}(s|years))?"
            .prop_map(String::into_bytes),
        "https?://[a-z:@/?#\\[\\]%0-9.]{0,20}".prop_map(String::into_bytes),
        "[a-z0-9.,:_/-]{0,20}".prop_map(String::into_bytes),
    ]
}

proptest! {
    #[test]
    fn no_variable_makes_it_panic(
        variables in prop::collection::vec((variable(), value()), 1..4),
    ) {
        let variables = variables.into_iter();
        let variables = variables.map(|(name, value)| (name.into(), OsString::from_vec(value)));
        match Config::load_os(None, variables) {
            Ok((config, effective)) => { let _ = format!("{config:?}{effective}"); }
            Err(errors) => {
                let text = errors.to_string();
                prop_assert_eq!(text.lines().count(), errors.iter().count() + 1, "{}", text);
            }
        }
    }

    #[test]
    fn no_file_makes_it_panic(text in any::<String>(), at in 0..DEFAULTS.len()) {
        let _ = load(&text, &[]);
        if DEFAULTS.is_char_boundary(at) {
            let (head, tail) = DEFAULTS.split_at(at);
            let _ = load(&format!("{head}{text}{tail}"), &[]);
        }
    }

    /// What is printed means what was meant, down to the last odd character.
    #[test]
    fn the_printed_configuration_reads_back(
        module in "(\\PC|[\n\r\t\"\\\\\u{7f}\u{85}]){0,8}",
        message in any::<String>(),
        rack in any::<String>(),
        delay in 1_u64..=250,
    ) {
        let variables = env(&[
            ("USER_OTP__LOCALIZATION__MODULE", &module),
            ("USER_OTP__SERVICES__OUTAGE_MESSAGES", &message),
            ("USER_OTP__KAFKA__CLIENT_RACK", &rack),
            ("USER_OTP__RETRY__DELAYS", &format!("{delay}s")),
        ]);
        if let Ok((_, effective)) = Config::load(None, variables) {
            let printed = effective.to_string();
            let (_, again) = load(&printed, &[]).expect("what is printed is valid");
            let values = |e: &Effective| -> Vec<_> {
                e.iter().map(|s| (s.key.clone(), s.value.clone())).collect()
            };
            prop_assert_eq!(values(&again), values(&effective), "{}", printed);
            let lines = printed.lines().filter(|line| !line.is_empty() && !line.starts_with('['));
            prop_assert_eq!(lines.count(), effective.iter().count(), "{}", printed);
        }
    }
}
