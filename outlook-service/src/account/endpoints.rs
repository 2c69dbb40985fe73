//! Where the clouds are: Graph's and the identity platform's base URLs. The national clouds are those of Microsoft's
//! documentation of 2025 (authentication in national clouds).

use postern_proto::outlook::v1::{Cloud, CustomCloud, OutlookSettings};
use reqwest::Url;

use crate::error::Problems;

/// Graph's and the identity platform's base URLs.
pub(super) fn endpoints(settings: &OutlookSettings, problems: &mut Problems) -> Option<(Url, Url)> {
    let (graph, login) = match Cloud::try_from(settings.cloud) {
        Ok(Cloud::Unspecified | Cloud::Worldwide) => {
            ("https://graph.microsoft.com", "https://login.microsoftonline.com")
        }
        Ok(Cloud::UsGovernment) => ("https://graph.microsoft.us", "https://login.microsoftonline.us"),
        Ok(Cloud::UsGovernmentDod) => ("https://dod-graph.microsoft.us", "https://login.microsoftonline.us"),
        Ok(Cloud::China) => {
            ("https://microsoftgraph.chinacloudapi.cn", "https://login.partner.microsoftonline.cn")
        }
        Ok(Cloud::Custom) => match &settings.custom_cloud {
            Some(cloud) => return custom(cloud, problems),
            None => {
                problems.push(("outlook.custom_cloud".into(), "is needed with CLOUD_CUSTOM".into()));
                return None;
            }
        },
        Err(_) => {
            problems.push(("outlook.cloud".into(), "is not a known cloud".into()));
            return None;
        }
    };
    Some((base(graph, true).ok()?.join("v1.0/").ok()?, base(login, true).ok()?))
}

fn custom(cloud: &CustomCloud, problems: &mut Problems) -> Option<(Url, Url)> {
    let mut read = |field: &str, text: &str| {
        base(text, !cloud.allow_plaintext)
            .map_err(|problem| problems.push((format!("outlook.custom_cloud.{field}"), problem)))
            .ok()
    };
    let graph = read("graph_url", &cloud.graph_url);
    let login = read("login_url", &cloud.login_url);
    Some((graph?.join("v1.0/").ok()?, login?))
}

/// A base URL, ending in a slash.
fn base(text: &str, tls: bool) -> Result<Url, String> {
    let expected =
        if tls { "expected a URL with https://" } else { "expected a URL with https:// or http://" };
    let mut url = Url::parse(text).map_err(|_| expected.to_owned())?;
    let scheme = url.scheme() == "https" || (!tls && url.scheme() == "http");
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !scheme || !bare || url.fragment().is_some() || !url.has_host() {
        return Err(expected.to_owned());
    }
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cloud_has_its_own_graph_and_sign_in() {
        for (cloud, graph, login) in [
            (Cloud::Unspecified, "https://graph.microsoft.com/v1.0/", "https://login.microsoftonline.com/"),
            (Cloud::Worldwide, "https://graph.microsoft.com/v1.0/", "https://login.microsoftonline.com/"),
            (Cloud::UsGovernment, "https://graph.microsoft.us/v1.0/", "https://login.microsoftonline.us/"),
            (
                Cloud::UsGovernmentDod,
                "https://dod-graph.microsoft.us/v1.0/",
                "https://login.microsoftonline.us/",
            ),
            (
                Cloud::China,
                "https://microsoftgraph.chinacloudapi.cn/v1.0/",
                "https://login.partner.microsoftonline.cn/",
            ),
        ] {
            let settings = OutlookSettings { cloud: cloud.into(), ..OutlookSettings::default() };
            let mut problems = Problems::new();
            let (found_graph, found_login) = endpoints(&settings, &mut problems).unwrap();
            assert_eq!((found_graph.as_str(), found_login.as_str()), (graph, login), "{cloud:?}");
            assert!(problems.is_empty());
        }
    }
}
