pub(super) fn run(
    _: &super::StatusArgs,
    _: &dyn crate::config::Vars,
) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("x")
}
