//! Whose answers decide: the contract's policies, on places in the list of options. Pure.

use postern_proto::approval::v1::ApprovalPolicy;
use postern_proto::approval::v1::approval_policy::Kind;

/// What the answers so far come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More answers are needed.
    Open,
    /// It is decided on an option: its place in the list.
    Decided(usize),
    /// It cannot be decided any more.
    Undecidable,
}

/// Judges the answers of all recipients, each the place of an option or none yet.
pub(super) fn judge(policy: Option<&ApprovalPolicy>, options: usize, answers: &[Option<usize>]) -> Verdict {
    let given = || answers.iter().flatten().copied();
    match policy.and_then(|policy| policy.kind) {
        Some(Kind::Everybody(true)) => {
            if answers.iter().any(Option::is_none) {
                return Verdict::Open;
            }
            // Where all chose the same it is that one too.
            given().max().map_or(Verdict::Open, Verdict::Decided)
        }
        Some(Kind::Quorum(quorum)) => {
            let quorum = usize::try_from(quorum).unwrap_or(1).max(1);
            let mut votes = vec![0_usize; options];
            for answer in given() {
                if let Some(votes) = votes.get_mut(answer) {
                    *votes += 1;
                }
            }
            if let Some(option) = votes.iter().position(|votes| *votes >= quorum) {
                return Verdict::Decided(option);
            }
            let left = answers.iter().filter(|answer| answer.is_none()).count();
            match votes.into_iter().max().unwrap_or_default() + left >= quorum {
                true => Verdict::Open,
                false => Verdict::Undecidable,
            }
        }
        _ => given().next().map_or(Verdict::Open, Verdict::Decided),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quorum(quorum: i32) -> ApprovalPolicy {
        ApprovalPolicy { kind: Some(Kind::Quorum(quorum)) }
    }

    #[test]
    fn the_first_answer_decides_where_nothing_else_is_said() {
        assert_eq!(judge(None, 2, &[None, None]), Verdict::Open);
        assert_eq!(judge(None, 2, &[None, Some(1)]), Verdict::Decided(1));
        let not_everybody = ApprovalPolicy { kind: Some(Kind::Everybody(false)) };
        assert_eq!(judge(Some(&not_everybody), 2, &[None, Some(0)]), Verdict::Decided(0));
    }

    #[test]
    fn everybody_decides_together_and_the_last_option_wins_where_they_differ() {
        let policy = ApprovalPolicy { kind: Some(Kind::Everybody(true)) };
        assert_eq!(judge(Some(&policy), 3, &[Some(0), None]), Verdict::Open);
        assert_eq!(judge(Some(&policy), 3, &[Some(0), Some(0)]), Verdict::Decided(0));
        assert_eq!(judge(Some(&policy), 3, &[Some(1), Some(0)]), Verdict::Decided(1));
    }

    #[test]
    fn a_quorum_decides_once_it_is_there_and_ends_it_once_it_cannot_be_any_more() {
        let two = quorum(2);
        assert_eq!(judge(Some(&two), 2, &[Some(1), None, None]), Verdict::Open);
        assert_eq!(judge(Some(&two), 2, &[Some(1), Some(0), None]), Verdict::Open);
        assert_eq!(judge(Some(&two), 2, &[Some(1), Some(0), Some(1)]), Verdict::Decided(1));
        assert_eq!(judge(Some(&two), 3, &[Some(0), Some(1), Some(2)]), Verdict::Undecidable);
        assert_eq!(judge(Some(&quorum(3)), 2, &[Some(0), Some(1), None]), Verdict::Undecidable);
    }
}
