#[orchestrator_worker::main]
async fn main() -> Result<(), std::num::ParseIntError> {
    let one = "1".parse::<u64>()?;
    one
}
