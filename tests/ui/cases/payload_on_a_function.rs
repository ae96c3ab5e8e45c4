use orchestrator_worker::payload;

#[payload]
fn bug() {}

fn main() {
    bug();
}
