//! Every metric there is: its name with its unit, its labels and its help, each once. The
//! documentation's table (`docs/metrics.md`) is held against it by a test.

/// How a metric grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only upwards, from 0 at the start of the process; `_total` follows its name.
    Counter,
    /// Up and down.
    Gauge,
    /// Counts by size; `_bucket`, `_sum` and `_count` follow its name.
    Histogram,
}

/// What a metric is called and says.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// How it grows.
    pub kind: Kind,
    /// Its name, with its unit, without what its kind appends.
    pub name: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
    /// Its help text, without a final full stop.
    pub help: &'static str,
}

impl Metric {
    /// The name of its samples; of a histogram, the one that counts.
    #[must_use]
    pub fn shown_name(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge => self.name.to_owned(),
            Kind::Histogram => format!("{}_count", self.name),
        }
    }
}

macro_rules! metrics {
    ($($name:ident: $kind:ident $text:literal [$($label:literal),*] $help:literal;)+) => {
        $(pub(super) const $name: Metric = Metric {
            kind: Kind::$kind,
            name: $text,
            labels: &[$($label),*],
            help: $help,
        };)+

        /// Every metric, in the order of the documentation.
        pub const ALL: &[Metric] = &[$($name,)+];
    };
}

metrics! {
    REQUESTS: Counter "user_otp_requests" ["door", "outcome", "code"]
        "Requests that came to their final outcome, once it is committed";
    PUBLISH: Histogram "user_otp_publish_duration_seconds" ["door"]
        "From the time of a request (its record's) to the commit of its messages";
    RETRIES: Counter "user_otp_retries" ["code"]
        "Tries that ended on a retry topic";
    DEAD_LETTERS: Counter "user_otp_dead_letters" ["disposition", "code"]
        "Requests that ended on the dead-letter topic";
    HTTP_ANSWERS: Counter "user_otp_http_answers" ["status"]
        "Answers of the HTTP door, by status";
    HANDED_OVER: Counter "user_otp_http_handed_over" []
        "HTTP requests that went on the topic of accepted requests";
    HTTP_OPEN: Gauge "user_otp_http_requests_in_progress" []
        "HTTP requests that were read and are not answered";
    HTTP_BODIES: Gauge "user_otp_http_body_bytes" []
        "Bytes reserved for the bodies of HTTP requests; http.body_bytes bounds them";
    LIMITS: Counter "user_otp_limits_reached" ["limit", "effect"]
        "Requests over a sending limit: refused, or only counted (shadowed)";
    CALLS: Counter "user_otp_service_calls" ["service", "result"]
        "Calls to a service, by what came of them";
    CALL_TIME: Histogram "user_otp_service_call_duration_seconds" ["service"]
        "From sending a call to the last byte of its answer";
    CALL_LIMIT: Gauge "user_otp_service_calls_limit" ["service"]
        "Calls that a service gets at once";
    CALLS_OPEN: Gauge "user_otp_service_calls_in_progress" ["service"]
        "Calls to a service under way";
    CALLS_WAITING: Gauge "user_otp_service_calls_waiting" ["service"]
        "Requests that wait for their turn at a service";
    UNUSABLE: Counter "user_otp_templates_unusable" ["template"]
        "Texts that localization answered and that cannot be used, each time they are read";
    LAG: Gauge "user_otp_lag_records" ["topic"]
        "Records below the last stable offset that are not finished, on our partitions";
    LAG_AGE: Gauge "user_otp_lag_seconds" ["topic"]
        "Age of the oldest of them by its record time; on a retry topic its delay is part of it";
    POISON: Gauge "user_otp_poison_ratio" ["topic"]
        "Part of what came lately (engine.poison_window) that cannot be read, from 0 to 1";
    PARTITIONS: Gauge "user_otp_partitions_assigned" []
        "Partitions that are consumed";
    PENDING: Gauge "user_otp_partitions_pending" []
        "Partitions assigned to us whose start is not known yet";
    TROUBLES: Gauge "user_otp_consumer_troubles" ["trouble"]
        "What keeps records from being read, as health names it: partitions, topics and errors";
    UNREADABLE: Gauge "user_otp_partitions_unreadable" []
        "Partitions of our own topics that wait at a batch which cannot be decoded";
    REFUSED: Gauge "user_otp_client_refused" ["client"]
        "1 while brokers refuse this client, as health names it, else 0";
    STALLED: Gauge "user_otp_commits_stalled" ["client"]
        "1 while /health/live is DOWN because no transaction of this client goes through, else 0";
    CLOCK: Gauge "user_otp_clock_ahead_seconds" []
        "How far this machine's clock is ahead of the brokers', negative if behind; 0 within request.min_life, NaN while not known";
    REBALANCES: Counter "user_otp_rebalances" ["event"]
        "Changes of our partitions by the group";
    WINDOW: Gauge "user_otp_window_requests" []
        "Requests in hand";
    WINDOW_BYTES: Gauge "user_otp_window_bytes" []
        "Bytes of the records in hand";
    PARKED: Gauge "user_otp_retries_parked" []
        "Retries in memory that wait until they are due";
    WAITING_BYTES: Gauge "user_otp_retries_waiting_bytes" []
        "Bytes of retries in memory that wait until they are due; retry.waiting_bytes bounds them";
    LATENESS: Histogram "user_otp_retry_lateness_seconds" []
        "From the moment a retry was due to the start of its handling";
    TRANSACTIONS: Counter "user_otp_transactions" ["door", "end"]
        "Transactions, by how they ended; rebuilt: with a new producer";
    TRANSACTION_TIME: Histogram "user_otp_transaction_duration_seconds" ["door"]
        "From the beginning of a transaction to its end, whichever it is";
    SKIPPED: Counter "user_otp_old_records_skipped" []
        "Records older than a request lives that were there before the group, passed over";
    LOST: Counter "user_otp_offsets_lost" []
        "Offsets that were gone before they were consumed (retention, a topic created anew)";
    AGE: Histogram "user_otp_request_age_seconds" []
        "How old requests were by their records' times when they were read: lag, or a producer's clock that is behind";
    AHEAD: Histogram "user_otp_record_ahead_seconds" []
        "How far records' times were ahead of our clock, of those that were: a producer's clock";
}
