//! skeleton

/// skeleton until the real one is merged
#[derive(Debug)]
pub struct Client;
impl Client {
    /// skeleton
    pub fn new(
        _: &crate::config::CustomerIoConfig,
    ) -> Result<Self, Vec<crate::diagnostic::Diagnostic>> {
        todo!()
    }
}
impl super::Destination for Client {
    fn send(
        &self,
        _: Vec<bytes::Bytes>,
        _: u32,
    ) -> futures_util::future::BoxFuture<'_, super::Reply> {
        todo!()
    }
    fn probe(&self) -> futures_util::future::BoxFuture<'_, Result<(), super::Hold>> {
        todo!()
    }
}
