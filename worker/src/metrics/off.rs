//! A worker without the feature `metrics` counts nothing.

use orchestrator::{Claim, Result};

use crate::counted::{Ended, Rare};

#[derive(Debug)]
pub(crate) struct Begun;

impl Begun {
    pub(crate) fn end(&self, _: Ended) {}
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Meter;

impl Meter {
    pub(crate) fn begin(&self, _: &Claim) -> Begun {
        Begun
    }

    pub(crate) fn running(&self, _: usize) {}

    pub(crate) fn rescued(&self, _: usize) {}

    pub(crate) fn rare(&self, _: Rare) {}

    pub(crate) fn leased(&self, _: bool) {}

    pub(crate) fn draining(&self) {}
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) meter: Meter,
}

impl Metrics {
    pub(crate) fn at(_: Option<&str>, _: usize, _: &[&str]) -> Result<Self> {
        Ok(Self::default())
    }

    pub(crate) fn serve(&mut self) -> Result<Option<()>> {
        Ok(None)
    }
}
