//! The own clock against the brokers', as health says it.

use crate::kafka::wait_until;
use crate::process::Process;
use crate::world::World;

fn clock_of(process: &Process) -> String {
    let (_, body) = process.get("/health/ready");
    let report: serde_json::Value = serde_json::from_str(&body).expect("a report");
    let checks = report["checks"].as_array().expect("checks").iter();
    let clock = checks.filter(|check| check["name"] == "clock");
    clock.map(ToString::to_string).collect()
}

#[test]
fn a_topic_with_its_producers_times_is_not_compared_with() {
    let world = World::new();
    world.kafka.create_topic(&world.topics.outcomes, 2, &[]);
    let process = world.start("a");
    wait_until("it says so", || {
        let said = clock_of(&process);
        said.contains("not compared") && said.contains("\"UP\"")
    });
}
