//! The maximum sizes of headers: more than nginx's own 4 KiB for a response and 8 KiB for a request, which are too
//! small for large cookies and content security policies.
//!
//! What must stay true: the settings of an administrator win, because nginx refuses a directive that is there twice,
//! and sizes that do not fit together.

use std::io;
use std::path::Path;

use lockstep_runtime::durable;

use super::additions;
use super::directives::directives;

/// All that has to fit together, with what nginx derives from it:
/// <https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_busy_buffers_size>.
const ANSWER: [&str; 4] =
    ["proxy_buffer_size", "proxy_buffers", "proxy_busy_buffers_size", "proxy_temp_file_write_size"];

const REQUEST: [&str; 1] = ["large_client_header_buffers"];

/// The lines of a site's server; none where an administrator has said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The headers of an answer fit into one buffer: 32 KiB, and some more around it.
    pub answer: &'static str,
    /// A line of a request fits into one buffer. It holds from the line `Host` on, which clients send first.
    pub request: &'static str,
}

impl Sizes {
    pub const OURS: Self = Self {
        answer: "    proxy_buffer_size 40k;\n    proxy_buffers 8 16k;\n",
        request: "    large_client_header_buffers 4 32k;\n",
    };
}

/// Where an administrator may have said it.
pub(super) struct SizeSources<'a> {
    /// `nginx.conf`, of which only what holds for every site counts.
    pub(super) configuration: &'a Path,
    pub(super) proxy_params: Option<&'a Path>,
    pub(super) additions: &'a Path,
}

/// What a site says, given what an administrator says.
///
/// # Errors
/// When a file that is there cannot be read.
pub(super) fn choose_sizes(sources: &SizeSources<'_>) -> io::Result<Sizes> {
    let of_all = durable::read(sources.configuration)?.unwrap_or_default();
    let mut of_site = String::new();
    let files =
        additions::files(sources.additions)?.into_iter().chain(sources.proxy_params.map(Path::to_owned));
    for file in files {
        of_site.push_str(&durable::read(&file)?.unwrap_or_default());
        of_site.push('\n');
    }
    let is_set = |names: &[&str]| {
        directives(&of_all).any(|(depth, name)| depth == 1 && names.contains(&name))
            || directives(&of_site).any(|(_, name)| names.contains(&name))
    };
    Ok(Sizes {
        answer: if is_set(&ANSWER) { "" } else { Sizes::OURS.answer },
        request: if is_set(&REQUEST) { "" } else { Sizes::OURS.request },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes_for(configuration: &str, addition: &str, proxy_params: &str) -> Sizes {
        let directory = tempfile::tempdir().unwrap();
        let (nginx, additions) = (directory.path().join("nginx.conf"), directory.path().join("own.d"));
        let params = directory.path().join("proxy_params");
        std::fs::create_dir(&additions).unwrap();
        std::fs::write(&nginx, configuration).unwrap();
        std::fs::write(additions.join("own.conf"), addition).unwrap();
        std::fs::write(additions.join("README"), "proxy_buffers 4 4k;").unwrap();
        std::fs::write(&params, proxy_params).unwrap();
        choose_sizes(&SizeSources {
            configuration: &nginx,
            proxy_params: Some(&params),
            additions: &additions,
        })
        .unwrap()
    }

    #[test]
    fn where_nobody_has_said_it_the_site_does() {
        let configuration = "http {\n    # proxy_buffers 4 4k;\n    include conf.d/*.conf;\n}\n";
        assert_eq!(
            sizes_for(configuration, "location /a { return 204; }", "proxy_redirect off;"),
            Sizes::OURS
        );
    }

    #[test]
    fn what_is_said_for_every_site_wins() {
        let sizes = sizes_for("events {}\nhttp { gzip on; proxy_buffer_size\n 128k; }", "", "");
        assert_eq!(sizes, Sizes { answer: "", ..Sizes::OURS });
    }

    #[test]
    fn what_is_said_of_another_site_is_not_said_of_this_one() {
        assert_eq!(sizes_for("http { server { proxy_buffers 8 32k; } }", "", ""), Sizes::OURS);
    }

    #[test]
    fn what_an_addition_says_wins() {
        let sizes = sizes_for("", "large_client_header_buffers 8 64k;", "");
        assert_eq!(sizes, Sizes { request: "", ..Sizes::OURS });
    }

    #[test]
    fn what_an_addition_says_of_one_place_has_to_fit() {
        let sizes = sizes_for("", "location /a {proxy_buffers 4 4k;}", "");
        assert_eq!(sizes, Sizes { answer: "", ..Sizes::OURS });
    }

    #[test]
    fn what_the_hosts_proxy_params_say_wins() {
        let sizes = sizes_for("", "", "proxy_set_header Host $host;\nproxy_busy_buffers_size 16k;\n");
        assert_eq!(sizes, Sizes { answer: "", ..Sizes::OURS });
    }
}
