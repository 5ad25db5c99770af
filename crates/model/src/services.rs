//! Names of well-known ports, for literals such as `fd.sport = https` and fields such as `fd.sproto`.

/// Names and numbers, sorted by name.
static SERVICES: &[(&str, u16)] = &[
    ("amqp", 5672),
    ("amqps", 5671),
    ("auth", 113),
    ("bacula-dir", 9101),
    ("bacula-fd", 9102),
    ("bacula-sd", 9103),
    ("bgp", 179),
    ("bootpc", 68),
    ("bootps", 67),
    ("chargen", 19),
    ("cvspserver", 2401),
    ("daytime", 13),
    ("discard", 9),
    ("distcc", 3632),
    ("docker", 2375),
    ("domain", 53),
    ("domain-s", 853),
    ("echo", 7),
    ("epmd", 4369),
    ("exec", 512),
    ("finger", 79),
    ("ftp", 21),
    ("ftp-data", 20),
    ("ftps", 990),
    ("ftps-data", 989),
    ("gdomap", 538),
    ("ggz", 5688),
    ("git", 9418),
    ("gnunet", 2086),
    ("gopher", 70),
    ("hkp", 11371),
    ("http", 80),
    ("http-alt", 8080),
    ("https", 443),
    ("imap", 143),
    ("imap2", 143),
    ("imaps", 993),
    ("ipp", 631),
    ("ipsec-nat-t", 4500),
    ("irc", 6667),
    ("ircd", 6667),
    ("ircs-u", 6697),
    ("isakmp", 500),
    ("iscsi-target", 3260),
    ("kerberos", 88),
    ("klogin", 543),
    ("kpasswd", 464),
    ("kshell", 544),
    ("l2f", 1701),
    ("ldap", 389),
    ("ldaps", 636),
    ("login", 513),
    ("mailq", 174),
    ("mdns", 5353),
    ("microsoft-ds", 445),
    ("ms-sql-m", 1434),
    ("ms-sql-s", 1433),
    ("munin", 4949),
    ("mysql", 3306),
    ("netbios-ns", 137),
    ("netbios-ssn", 139),
    ("netstat", 15),
    ("nfs", 2049),
    ("nntp", 119),
    ("nntps", 563),
    ("nrpe", 5666),
    ("nsca", 5667),
    ("ntp", 123),
    ("nut", 3493),
    ("openflow", 6653),
    ("openvpn", 1194),
    ("ovsdb", 6640),
    ("pop3", 110),
    ("pop3s", 995),
    ("postgresql", 5432),
    ("pptp", 1723),
    ("printer", 515),
    ("prospero", 191),
    ("ptp-event", 319),
    ("ptp-general", 320),
    ("puppet", 8140),
    ("qotd", 17),
    ("radius", 1812),
    ("radius-acct", 1813),
    ("redis", 6379),
    ("route", 520),
    ("rpc2portmap", 369),
    ("rsync", 873),
    ("rtsp", 554),
    ("shell", 514),
    ("sieve", 4190),
    ("sip", 5060),
    ("sip-tls", 5061),
    ("sips", 5061),
    ("smtp", 25),
    ("snmp", 161),
    ("snmp-trap", 162),
    ("socks", 1080),
    ("ssh", 22),
    ("submission", 587),
    ("submissions", 465),
    ("sunrpc", 111),
    ("svn", 3690),
    ("svrloc", 427),
    ("syslog", 514),
    ("systat", 11),
    ("tacacs", 49),
    ("telnet", 23),
    ("telnets", 992),
    ("tftp", 69),
    ("time", 37),
    ("uucp", 540),
    ("webmin", 10000),
    ("whois", 43),
    ("wsman", 5985),
    ("wsmans", 5986),
    ("x11", 6000),
    ("xdmcp", 177),
    ("xmpp-client", 5222),
    ("xmpp-server", 5269),
    ("zabbix-agent", 10050),
    ("zabbix-trapper", 10051),
];

/// The port of a service.
pub fn port(name: &str) -> Option<u16> {
    let index = SERVICES.binary_search_by_key(&name, |(known, _)| known).ok()?;
    SERVICES.get(index).map(|(_, port)| *port)
}

/// The name of a port; of several the first in the alphabet.
pub fn name(port: u16) -> Option<&'static str> {
    SERVICES.iter().find(|(_, known)| *known == port).map(|(name, _)| *name)
}

/// All names.
pub fn names() -> impl Iterator<Item = &'static str> {
    SERVICES.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_names_are_found() {
        assert!(SERVICES.is_sorted());
        assert_eq!(port("https"), Some(443));
        assert_eq!(port("nope"), None);
        assert_eq!((name(443), name(1)), (Some("https"), None));
    }
}
