//! nginx with keep-alive: a connection is reset now and then.

use super::clients::Load;
use super::lab::{BOTH, hosts};

#[test]
fn i6_nginx_under_ab_lives_through_twenty_cycles_with_and_without_keep_alive() {
    let _turn = hosts();
    let faultless = |text: &str| text.contains("Failed requests:        0") && !text.contains("Non-2xx");
    for host in BOTH {
        let web = host.start("web", "-p 8080:80 nginx", "nginx -g 'daemon off;'");
        web.host.sh("until docker exec web test -s /run/nginx.pid; do :; done");
        let url = format!("http://{}:8080/", host.address());
        let new = Load::start(&["ab", "-q", "-n", "4000", "-c", "10", "-s", "120", &url], faultless);
        let kept = Load::start(&["ab", "-q", "-k", "-n", "8000", "-c", "10", "-s", "120", &url], faultless);
        (0..20).for_each(|_| web.cycle());
        new.end();
        kept.end();
    }
}
