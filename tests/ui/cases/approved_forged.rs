use orchestrator_worker::Approved;

fn apply(plan: &Approved<u32>) -> u32 {
    **plan
}

fn main() {
    let forged = Approved { value: 7, form: (), by: "me".into(), note: String::new() };
    apply(&forged);
}
