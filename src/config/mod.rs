//! Settings.

mod sections;
mod values;

pub use sections::{
    Config, Engine, Http, Kafka, Limits, Localization, Log, Management, Mdms, Otp, Request, Retry,
    Rules, Services, Shutdown, Sms, Tenancy, Texts, Topics, Users,
};
pub use values::{KafkaProperties, LimitsMode, LogFormat, OnOutage, RetryDelay, ServiceUrl};
