//! `user-otp standin`: the four services' stand-ins on one port, until a signal ends them.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::egov::standin::{Behaviour, Script, Standin};

/// Calls that the journal keeps when nothing else is said.
const JOURNAL: usize = 100_000;

/// What people can change while the stand-ins run, for `--help`.
const HELP: &str = r#"The services are on one port, at their default paths:
  POST /user/_search                        egov-user
  POST /otp/v1/_create                      egov-otp
  POST /localization/messages/v1/_search    egov-localization
  POST /egov-mdms-service/v1/_search        egov-mdms

What they do can be changed while they run:
  GET /_standin/health        answers 200
  GET /_standin/journal       the calls so far, oldest first
  PUT /_standin/behaviour/S   S is users, otp, texts or rules; the body, all of it optional:
                              {"delayMs": 5, "jitterMs": 2, "fault": {...}, "probability": 0.5,
                               "skip": 0, "times": 3, "healsAfterMs": 10000}; {} heals.
                              Faults: {"kind": "status", "status": 503, "headers": {}, "body": ""}
                              {"kind": "tracer", "code": "...", "message": "..."}
                              {"kind": "reset"}, or hang, truncated, not-json, wrong-shape, html
                              {"kind": "slow-header", "pauseMs": 100}, or slow-body
                              {"kind": "oversized", "bytes": 2000000}
  PUT /_standin/users         adds or replaces: [{"mobileNumber": "9876543210",
                              "emailId": "a@b.c", "tenantId": "pb", "type": "CITIZEN"}]
  PUT /_standin/everyone      true: every number is a known citizen without email
  PUT /_standin/texts         [{"tenantId": "*", "locale": "en_IN",
                              "code": "sms.login.otp.msg", "message": "Your code is %s."}]
  PUT /_standin/rules         {"tenantId": "*", "entries": [{"countryCode": "+91",
                              "mobileNumberRegex": "^[6-9][0-9]{9}$", "default": true}]}"#;

/// Serves stand-ins of egov-user, egov-otp, egov-localization and egov-mdms over HTTP.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = HELP)]
pub struct StandinArgs {
    /// Where to listen; port 0 takes any free one.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    pub listen: SocketAddr,
    /// How long a user search takes.
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub user_delay: Duration,
    /// How long the creation of an OTP takes.
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub otp_delay: Duration,
    /// How long a search for texts takes.
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub texts_delay: Duration,
    /// How long a search for rules takes.
    #[arg(long, default_value = "0ms", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub rules_delay: Duration,
    /// Every number is a known citizen without email.
    #[arg(long)]
    pub everyone: bool,
    /// Keep no journal of the calls: for load.
    #[arg(long)]
    pub no_journal: bool,
}

impl StandinArgs {
    fn script(&self) -> Script {
        Script {
            users: Behaviour::slow(self.user_delay),
            otp: Behaviour::slow(self.otp_delay),
            texts: Behaviour::slow(self.texts_delay),
            rules: Behaviour::slow(self.rules_delay),
            everyone: self.everyone,
            journal: if self.no_journal { 0 } else { JOURNAL },
            ..Script::default()
        }
    }
}

/// Serves until SIGTERM or ctrl-c; see [`serve`].
///
/// # Errors
/// As [`serve`], or signals cannot be listened for.
pub async fn run(args: &StandinArgs, out: &mut (impl io::Write + Send)) -> io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let end = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    serve(args, out, end).await
}

/// Serves until `end`. Says on `out` where it listens, in one line that scripts read:
/// `stand-ins listening on http://127.0.0.1:PORT`.
///
/// # Errors
/// The address cannot be listened on, or `out` is closed.
pub async fn serve(
    args: &StandinArgs,
    out: &mut (impl io::Write + Send),
    end: impl Future<Output = ()>,
) -> io::Result<()> {
    let listener = TcpListener::bind(args.listen).await?;
    let standin = Standin::start(listener, args.script()).await?;
    writeln!(out, "stand-ins listening on {}", standin.url())?;
    out.flush()?;
    end.await;
    standin.stop().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: StandinArgs,
    }

    #[tokio::test]
    async fn it_says_where_it_listens_in_one_line() {
        let cli = Cli::parse_from(["standin", "--otp-delay", "60ms", "--everyone"]);
        let mut out = Vec::new();
        serve(&cli.args, &mut out, async {}).await.unwrap();
        let said = String::from_utf8(out).unwrap();
        let port = said
            .strip_prefix("stand-ins listening on http://127.0.0.1:")
            .and_then(|rest| rest.strip_suffix('\n'))
            .expect("the line that scripts read");
        assert_ne!(port.parse::<u16>().unwrap(), 0);
    }

    #[test]
    fn delays_become_the_script() {
        let cli = Cli::parse_from(["standin", "--user-delay", "5ms", "--no-journal"]);
        let script = cli.args.script();
        assert_eq!(script.users.delay_ms, 5);
        assert_eq!(script.otp, Behaviour::default());
        assert_eq!(script.journal, 0);
        assert!(!script.everyone);
    }
}
