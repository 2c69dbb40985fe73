//! Work that outlasts whoever asked for it.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

/// What work gave, or what a panic left of it.
type Ended<T> = Result<T, Box<dyn Any + Send>>;

/// A future that runs in the task of whoever waits for it, and moves to a task of its own once nobody does.
pub(super) struct Lasting<T: Send + 'static>(Option<BoxFuture<'static, Ended<T>>>);

impl<T: Send + 'static> Lasting<T> {
    /// `work`, which counts among `tasks` until it has ended.
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static, tasks: &TaskTracker) -> Self {
        Self(Some(Box::pin(tasks.track_future(AssertUnwindSafe(work).catch_unwind()))))
    }
}

impl<T: Send + 'static> Future for Lasting<T> {
    type Output = Ended<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Ended<T>> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let ended = ready!(work.as_mut().poll(cx));
        self.0 = None;
        Poll::Ready(ended)
    }
}

impl<T: Send + 'static> Drop for Lasting<T> {
    fn drop(&mut self) {
        // Without a runtime there is nothing that it could go on in.
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            drop(runtime.spawn(work));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot;

    #[tokio::test]
    async fn work_that_nobody_waits_for_goes_on_and_is_waited_for_at_the_end() {
        let tasks = TaskTracker::new();
        let (go, gone) = oneshot::channel();
        let (done, mut is_done) = oneshot::channel();
        let work = async move {
            gone.await.unwrap();
            done.send(()).unwrap();
        };
        let mut lasting = Lasting::new(work, &tasks);
        assert!((&mut lasting).now_or_never().is_none());
        drop(lasting);
        tasks.close();
        assert!(tasks.wait().now_or_never().is_none());
        go.send(()).unwrap();
        tasks.wait().await;
        is_done.try_recv().unwrap();
    }

    #[tokio::test]
    async fn work_that_panics_says_so_and_is_over() {
        let tasks = TaskTracker::new();
        let panicked = Lasting::new(async { panic!("on purpose") }, &tasks).await;
        assert_eq!(*panicked.map(|(): ()| ()).unwrap_err().downcast::<&str>().unwrap(), "on purpose");
        tasks.close();
        tasks.wait().await;
        assert_eq!(Lasting::new(async { 7 }, &tasks).await.unwrap(), 7);
    }
}
