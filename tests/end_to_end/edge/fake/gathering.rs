//! The echo service's method that takes a stream and gives one answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::Ordering;

use tonic::server::ClientStreamingService;
use tonic::{Request as Asked, Response as Answered, Status, Streaming};

use super::{Begun, Echo, Said, Say};

impl ClientStreamingService<Say> for Echo {
    type Response = Said;
    type Future = Pin<Box<dyn Future<Output = Result<Answered<Said>, Status>> + Send>>;

    /// Says what was said first, once all has been said.
    fn call(&mut self, request: Asked<Streaming<Say>>) -> Self::Future {
        let echo = self.clone();
        Box::pin(async move {
            let number_of_call = echo.0.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let mut begun = Begun(echo.0.clone(), false);
            let (metadata, _, mut says) = request.into_parts();
            let first = says.message().await?.unwrap_or_default();
            while says.message().await?.is_some() {}
            if first.text == "hang-once" && number_of_call == 1 {
                echo.0.heard_out.fetch_add(1, Ordering::SeqCst);
                std::future::pending::<()>().await;
            }
            begun.1 = true;
            Ok(Answered::new(echo.said(&metadata, first)))
        })
    }
}
