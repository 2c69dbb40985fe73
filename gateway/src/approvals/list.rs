//! Reading approvals: one, or a list of them, the newest first.

use std::time::SystemTime;

use postern_proto::approval::v1::{Approval, ApprovalState, ListApprovalsRequest, ListApprovalsResponse};
use prost::Message as _;

use super::Inner;
use super::record::{APPROVALS, Stored};
use crate::error::Error;
use crate::names;
use crate::page::Page;

/// How many records are read from the store at a time, and at most for a page.
const READ_AT_ONCE: usize = 200;
const MAX_READ: usize = 5_000;
/// The most bytes of a page with more than one approval: callers take 4 MiB.
const MAX_PAGE_BYTES: usize = 2 * 1024 * 1024;

impl Inner {
    pub(super) async fn get(&self, name: &str) -> Result<Approval, Error> {
        names::approval("name", name)?;
        Ok(Stored::read(self.store.as_ref(), name).await?.record.shown(SystemTime::now()))
    }

    pub(super) async fn list(&self, request: ListApprovalsRequest) -> Result<ListApprovalsResponse, Error> {
        if !request.connection.is_empty() {
            names::connection("connection", &request.connection)?;
        }
        for (at, state) in request.states.iter().enumerate() {
            if matches!(ApprovalState::try_from(*state), Err(_) | Ok(ApprovalState::Unspecified)) {
                return Err(Error::field(format!("states[{at}]"), "is no state of an approval"));
            }
        }
        let states = format!("{:?}", request.states);
        let arguments = ["ListApprovals", &request.connection, &states];
        let page = Page::read(request.page_size, &request.page_token, &arguments)?;
        let wanted = |approval: &Approval| {
            (request.connection.is_empty() || approval.connection == request.connection)
                && (request.states.is_empty() || request.states.contains(&approval.state))
        };
        let now = SystemTime::now();
        let (mut approvals, mut bytes, mut read, mut after) = (Vec::new(), 0, 0, page.after.clone());
        loop {
            let entries = self.store.list(APPROVALS, &after, READ_AT_ONCE).await?;
            for entry in &entries {
                let approval = Stored::decode(entry).ok().map(|stored| stored.record.shown(now));
                if let Some(approval) = approval.filter(wanted) {
                    bytes += approval.encoded_len();
                    if approvals.len() == page.size || (bytes > MAX_PAGE_BYTES && !approvals.is_empty()) {
                        return Ok(ListApprovalsResponse { approvals, next_page_token: page.token(&after) });
                    }
                    approvals.push(approval);
                }
                after.clone_from(&entry.key);
            }
            read += entries.len();
            let is_last = entries.len() < READ_AT_ONCE;
            if is_last || read >= MAX_READ {
                let next_page_token = if is_last { String::new() } else { page.token(&after) };
                return Ok(ListApprovalsResponse { approvals, next_page_token });
            }
        }
    }
}
