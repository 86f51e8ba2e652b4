//! Twenty cycles each, under load, on both engines: nobody notices.

use super::clients::{Load, Watch};
use super::lab::{BOTH, hosts};

#[test]
fn i6_redis_under_a_benchmark_lives_through_twenty_cycles() {
    let _turn = hosts();
    for host in BOTH {
        let redis = host.start("db", "-p 6379:6379 redis", "redis-server --protected-mode no --bind 0.0.0.0 --save ''");
        redis.host.sh("until docker exec db redis-cli ping; do sleep 0.1; done");
        let address = host.address();
        let load = Load::redis(&address, "-c 20 -n 60000");
        (0..20).for_each(|_| redis.cycle());
        load.end();
    }
}

#[test]
fn i6_nginx_under_ab_lives_through_twenty_cycles_with_and_without_keep_alive() {
    let _turn = hosts();
    for host in BOTH {
        let web = host.start("web", "-p 8080:80 nginx", "nginx -g 'daemon off;'");
        web.host.sh("until docker exec web test -s /run/nginx.pid; do sleep 0.1; done");
        let url = format!("http://{}:8080/", host.address());
        let new = Load::ab("-n 4000 -c 10", &url);
        let kept = Load::ab("-k -n 8000 -c 10", &url);
        (0..20).for_each(|_| web.cycle());
        new.end();
        kept.end();
    }
}

#[test]
fn i6_a_process_tree_lives_through_twenty_cycles() {
    let _turn = hosts();
    for host in BOTH {
        let tree = host.start("tree", "-p 7000:7000 programs", "/tools/tree 7000");
        let born = tree.born(7000);
        let watch = Watch::start(&format!("{}:7000", host.address()));
        for _ in 0..20 {
            tree.cycle();
            assert_eq!(tree.born(7000), born);
        }
        watch.end();
    }
}

#[test]
fn i6_a_gibibyte_of_memory_comes_back_whole() {
    let _turn = hosts();
    for host in BOTH {
        let holder = host.start("big", "-p 7000:7000 programs", "/tools/holder 7000 1024");
        let born = holder.born(7000);
        let watch = Watch::start(&format!("{}:7000", host.address()));
        holder.cycle();
        assert_eq!(holder.born(7000), born);
        watch.end();
    }
}
