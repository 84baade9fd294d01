//! stub
use super::picture::Picture;
use crate::error::Result;
use crate::geometry::InputRule;
#[derive(Debug)]
pub(super) struct Scaler(InputRule);
impl Scaler {
    pub(super) fn new(rule: InputRule) -> Scaler {
        Scaler(rule)
    }
    pub(super) fn scale(&mut self, _picture: &Picture<'_>, _out: &mut [u8]) -> Result<()> {
        Ok(())
    }
}
