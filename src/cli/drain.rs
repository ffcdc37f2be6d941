pub(super) fn run(
    _: &super::DrainArgs,
    _: &dyn crate::config::Vars,
) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("x")
}
pub(super) fn undo(
    _: &super::AdminArgs,
    _: &dyn crate::config::Vars,
) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("x")
}
