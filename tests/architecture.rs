//! Who may name what, read off the source text: the boundaries that the compiler does not draw.
//!
//! Comments and unit tests at the end of a file do not count.
#![expect(clippy::panic, reason = "a test says what it could not read")]

use std::path::{Path, PathBuf};

use rstest::rstest;

/// Values in, values out: what these decide can be tested, and simulated, without the world.
const PURE: [&str; 50] = [
    "bounded.rs",
    "clock.rs",
    "decide.rs",
    "domain/",
    "egov/limit.rs",
    "egov/schedule.rs",
    "engine/aside.rs",
    "engine/door/claim.rs",
    "engine/door/records.rs",
    "engine/headers.rs",
    "engine/lanes.rs",
    "engine/lasting.rs",
    "engine/offsets.rs",
    "engine/output.rs",
    "engine/poison.rs",
    "engine/progress_watch.rs",
    "engine/record.rs",
    "engine/retry.rs",
    "engine/state.rs",
    "engine/state/doubt.rs",
    "engine/supersede.rs",
    "engine/tag.rs",
    "engine/trouble.rs",
    "engine/unreadable.rs",
    "engine/unreadable/suspects.rs",
    "health.rs",
    "idempotency/memory.rs",
    "limits/memory.rs",
    "limits/window.rs",
    "messages.rs",
    "notification.rs",
    "ops/check/cluster.rs",
    "ops/check/consumers.rs",
    "ops/check/permissions.rs",
    "ops/check/segments.rs",
    "ops/check/services.rs",
    "ops/check/settings.rs",
    "ops/check/texts.rs",
    "ops/check/topics.rs",
    "ops/filter.rs",
    "ops/instances.rs",
    "ops/letter.rs",
    "ops/moment.rs",
    "ops/numbers.rs",
    "ops/shown.rs",
    "outcome.rs",
    "retry_topics.rs",
    "topics.rs",
    "topology.rs",
    "wire/",
];

/// A file of `src`.
struct Source {
    /// Below `src`, with slashes.
    path: String,
    /// Without comments and without the tests at its end.
    code: Vec<(usize, String)>,
    /// How many lines it has without its tests.
    lines: usize,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let sources: Vec<_> = files.iter().map(|file| Source::read(&root, file)).collect();
    assert!(sources.len() > 40, "the sources are somewhere else now");
    sources
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    for entry in entries {
        let path = entry.expect("a folder that stays as it is").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

impl Source {
    fn read(root: &Path, file: &Path) -> Self {
        let path = file.strip_prefix(root).expect("a file below its root");
        let path = path.to_string_lossy().replace('\\', "/");
        let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{path}: {error}"));
        let body: Vec<_> = text
            .lines()
            .enumerate()
            .take_while(|(_, line)| *line != "#[cfg(test)]")
            .collect();
        let code = body
            .iter()
            .map(|(index, line)| (index + 1, line.split("//").next().unwrap_or("").to_owned()))
            .collect();
        Self {
            lines: if is_test(&path) { 0 } else { body.len() },
            code,
            path,
        }
    }

    fn is_below(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.path == *place || (place.ends_with('/') && self.path.starts_with(place))
        })
    }

    /// The lines that name `word`, a path or the crate at the beginning of one.
    fn naming(&self, word: &str) -> Vec<usize> {
        self.code
            .iter()
            .filter(|(_, line)| names(line, word))
            .map(|(number, _)| *number)
            .collect()
    }
}

fn names(line: &str, word: &str) -> bool {
    let in_a_word = |one: char| one.is_alphanumeric() || one == '_';
    // A setting may be called as a crate is; a crate is followed by a path, or comes after `use`.
    let imports = line.trim_start().starts_with(&format!("use {word}"));
    line.match_indices(word).any(|(at, _)| {
        let rest = &line[at + word.len()..];
        let alone = !line[..at].ends_with(in_a_word) && !rest.starts_with(in_a_word);
        alone && (word.contains("::") || rest.starts_with("::") || imports)
    })
}

fn is_test(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.contains("/tests/")
}

#[rstest]
#[case::kafka("rdkafka", &["engine/", "demo/"], "the rest of the program speaks of records and outcomes, not of Kafka's client")]
#[case::http_client("reqwest", &["egov/", "management/"], "one client with deadlines and bounds makes every call; one more asks other instances")]
#[case::metrics("prometheus_client", &["metrics/"], "each metric has its name once, and nothing else knows how it is kept")]
#[case::http_server("axum", &["http/", "management.rs", "egov/standin/"], "what a request over HTTP means is said without it")]
#[case::http_connections("hyper", &["http/server.rs"], "how long a connection may be held open is decided in one place")]
#[case::quick_retries("backoff", &["egov/repeat.rs"], "how long to wait is decided in one place")]
#[case::redis("redis", &["store.rs"], "one connection with deadlines, which nobody depends on")]
#[case::environment("std::env", &["config/"], "the environment is read once, and every setting says where it came from")]
#[case::wall_clock("SystemTime::now", &["clock.rs"], "ask the Clock, so that tests can set the time")]
#[case::hard_end("process::exit", &["service.rs"], "only the watchdog may end the process without draining it")]
fn only_these_name(#[case] word: &str, #[case] places: &[&str], #[case] reason: &str) {
    let mut named = 0;
    for source in sources() {
        let lines = source.naming(word);
        if source.is_below(places) {
            named += lines.len();
        } else {
            assert!(
                lines.is_empty(),
                "src/{} names `{word}` in line {lines:?}; only {places:?} may: {reason}",
                source.path
            );
        }
    }
    assert!(
        named > 0,
        "nobody names `{word}` any more: this rule guards nothing"
    );
}

#[rstest]
fn pure_modules_name_no_outside_world(
    #[values("tokio", "tokio_util", "rdkafka", "reqwest", "axum", "redis")] word: &str,
) {
    let sources = sources();
    for place in PURE {
        assert!(
            sources.iter().any(|source| source.is_below(&[place])),
            "src/{place} is not there: this rule guards nothing"
        );
    }
    for source in sources.iter().filter(|source| source.is_below(&PURE)) {
        let lines = source.naming(word);
        assert!(
            lines.is_empty(),
            "src/{} names `{word}` in line {lines:?}; it is pure: it takes values and returns \
             values, so that it can be tested and simulated without the world",
            source.path
        );
    }
}

#[test]
fn main_only_starts() {
    let sources = sources();
    let main = sources.iter().find(|source| source.path == "main.rs");
    let lines = main.expect("src/main.rs is there").lines;
    assert!(
        lines <= 50,
        "src/main.rs has {lines} lines: it only starts what the library does"
    );
}

#[test]
fn no_file_holds_more_than_one_idea() {
    const LIMIT: usize = 720;
    for source in sources() {
        assert!(
            source.lines <= LIMIT,
            "src/{} has {} lines without its tests, more than {LIMIT}: it holds more than one \
             idea; split it by idea",
            source.path,
            source.lines
        );
    }
}
