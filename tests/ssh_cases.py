"""Other people's ssh configurations: for each what it is, its files, and what comes of it.

In the texts {dir} is a folder of the case's own, {keys} that of the keys, {port} and {gate} the two servers' ports,
{user} who one is, {known} and {known_gate} lines of known_hosts.
"""

from __future__ import annotations

from dataclasses import dataclass, field

BASE = "  HostName 127.0.0.1\n  Port {port}\n  User {user}\n"
KEY = "  IdentityFile {keys}/a\n  IdentitiesOnly yes\n"
HOSTS = "  UserKnownHostsFile {dir}/known_hosts\n  GlobalKnownHostsFile none\n"
GATE = "Host gate\n  HostName 127.0.0.1\n  Port {gate}\n  User {user}\n" + KEY + HOSTS
SECOND = GATE.replace("Host gate", "Host second")
AGENT = '  IdentityAgent "{world}/Group Containers/agent.sock"\n'
MANY = '  IdentityAgent "{world}/many/agent.sock"\n'


@dataclass(frozen=True)
class Case:
    what: str
    config: str
    outcome: str
    known: str = "{known}\n{known_gate}\n"
    files: dict[str, str] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    alias: str = "mac"


def mac(*more: str, key: str = KEY, hosts: str = HOSTS) -> str:
    return "Host mac\n" + BASE + key + hosts + "".join(f"  {line}\n" for line in more)


IN, THROUGH = "in with `a`", "in with `a`, through the gate"
HOST_KEY, USER, NO, CONFIG = "host key refused", "user refused", "no connection", "configuration refused"

CASES = [
    # where the settings stand
    Case("HostName, Port, User, IdentityFile", mac(), IN),
    Case("`Include` with a pattern", "Include {dir}/conf.d/*.conf\n", IN, files={"conf.d/mac.conf": mac()}),
    Case(
        "`Include` in a `Host`, its name in quotes",
        'Host mac\n  Include "{dir}/a b.conf"\n',
        IN,
        files={"a b.conf": BASE + KEY + HOSTS},
    ),
    Case("the first value of a setting wins", mac() + "Host *\n  Port 1\n  User nobody\n", IN),
    Case(
        "`Match host … user …`",
        "Match originalhost mac\n" + BASE + HOSTS + "Match host 127.0.0.1 user {user}\n" + KEY,
        IN,
    ),
    Case("`Match exec` that is true", 'Match originalhost mac exec "test %n = mac"\n' + BASE + KEY + HOSTS, IN),
    Case("`Match exec` that is false", 'Match originalhost mac exec "false"\n  Port 1\n' + mac(), IN),
    Case("`Match final`", "Host mac\n" + BASE + HOSTS + "Match final host 127.0.0.1\n" + KEY, IN),
    Case(
        "words in quotes, `=` between",
        'Host="mac"\n  HostName="127.0.0.1"\n  Port={port}\n  User="{user}"\n' + KEY + HOSTS,
        IN,
    ),
    Case("`IgnoreUnknown UseKeychain`", "IgnoreUnknown UseKeychain\n" + mac("UseKeychain yes"), IN),
    Case("an unknown setting", mac("NoSuchSetting yes"), CONFIG),
    Case("a file to Include that is not there", "Include {dir}/nothing\n" + mac(), IN),
    Case("an alias that no Host has", mac(), NO, alias="other"),
    Case("a HostName that has no address", "Host mac\n  HostName no-such-mac.invalid\n", NO),
    Case(
        "AddressFamily, BindAddress, Compression",
        mac("AddressFamily inet", "BindAddress 127.0.0.1", "Compression yes"),
        IN,
    ),
    # who the host is
    Case("HostKeyAlias", mac("HostKeyAlias leased"), IN, known="leased {host_key}\n"),
    Case("HostKeyAlias that is not known", mac("HostKeyAlias leased"), HOST_KEY),
    Case(
        "GlobalKnownHostsFile alone",
        mac(hosts="  UserKnownHostsFile none\n  GlobalKnownHostsFile {dir}/global\n"),
        IN,
        files={"global": "{known}\n"},
    ),
    Case(
        "several UserKnownHostsFile, one missing, one with a blank",
        mac(hosts='  UserKnownHostsFile {dir}/none "{dir}/a b" {dir}/known_hosts\n'),
        IN,
        known="",
        files={"a b": "{known}\n"},
    ),
    Case("hashed names", mac(), IN, known="{hashed}\n"),
    Case("`*` and `?` in a name", mac(), IN, known="[127.0.0.*]:* {host_key}\n"),
    Case("a name that `!` takes out", mac(), HOST_KEY, known="[127.0.0.*]:*,![127.0.0.1]:{port} {host_key}\n"),
    Case("the name without its port", mac(), IN, known="127.0.0.1 {host_key}\n"),
    Case("only the host's RSA key is known", mac(), IN, known="{known_rsa}\n"),
    Case(
        "a damaged line before", mac(), IN, known="what is this\n[127.0.0.1]:{port} ssh-ed25519 AAAAdamaged\n{known}\n"
    ),
    Case("a Latin-1 byte in a comment", mac(), IN, known="other ssh-ed25519 AAAA B\xfcro\n{known} B\xfcro\n"),
    Case("a Latin-1 byte in the only line's name", mac(), HOST_KEY, known="B\xfcro {host_key}\n"),
    Case("no line at all", mac(), HOST_KEY, known=""),
    Case("another key than before", mac(), HOST_KEY, known="[127.0.0.1]:{port} {other_key}\n"),
    Case(
        "StrictHostKeyChecking accept-new",
        mac("StrictHostKeyChecking accept-new"),
        "in with `a`, host key kept",
        known="# mine\n",
    ),
    Case(
        "the same, no newline at the file's end",
        mac("StrictHostKeyChecking accept-new", "HashKnownHosts yes"),
        "in with `a`, host key kept",
        known="# mine",
    ),
    Case(
        "accept-new, another key than before",
        mac("StrictHostKeyChecking accept-new"),
        HOST_KEY,
        known="[127.0.0.1]:{port} {other_key}\n",
    ),
    Case(
        "StrictHostKeyChecking no, /dev/null",
        mac("StrictHostKeyChecking no", hosts="  UserKnownHostsFile /dev/null\n  GlobalKnownHostsFile /dev/null\n"),
        IN,
    ),
    Case(
        "StrictHostKeyChecking no, another key than before",
        mac("StrictHostKeyChecking no"),
        IN,
        known="[127.0.0.1]:{port} {other_key}\n",
    ),
    Case(
        "StrictHostKeyChecking yes, /dev/null",
        mac("StrictHostKeyChecking yes", hosts="  UserKnownHostsFile /dev/null\n  GlobalKnownHostsFile /dev/null\n"),
        HOST_KEY,
    ),
    Case("`@cert-authority`", mac(), IN, known="@cert-authority [127.0.0.1]:* {host_ca}\n"),
    Case("`@cert-authority` of another host", mac(), HOST_KEY, known="@cert-authority *.example.com {host_ca}\n"),
    Case(
        "`@cert-authority`, HostKeyAlias not in the certificate",
        mac("HostKeyAlias leased"),
        HOST_KEY,
        known="@cert-authority * {host_ca}\n",
    ),
    Case(
        "`@cert-authority`, HostKeyAlias in the certificate",
        mac("HostKeyAlias certified-name"),
        IN,
        known="@cert-authority * {host_ca}\n",
    ),
    Case("`@revoked`", mac(), HOST_KEY, known="{known}\n@revoked * {host_key}\n"),
    Case("`@revoked` authority", mac(), HOST_KEY, known="@cert-authority * {host_ca}\n@revoked * {host_ca}\n"),
    Case("RevokedHostKeys", mac("RevokedHostKeys {dir}/revoked"), HOST_KEY, files={"revoked": "{host_key}\n"}),
    Case("NoHostAuthenticationForLocalhost", mac("NoHostAuthenticationForLocalhost yes"), IN, known=""),
    Case("HostKeyAlgorithms of one that is not known", mac("HostKeyAlgorithms rsa-sha2-512"), HOST_KEY),
    Case("HostKeyAlgorithms of one that is known", mac("HostKeyAlgorithms rsa-sha2-512"), IN, known="{known_rsa}\n"),
    # who one is
    Case("a key that is not let in, then one that is", mac(key="  IdentityFile {keys}/stranger\n" + KEY), IN),
    Case(
        "IdentityFile in quotes, with a blank",
        mac(key='  IdentityFile "{dir}/my key"\n  IdentitiesOnly yes\n'),
        IN,
        files={"my key": "{a}"},
    ),
    Case(
        "tokens and a variable in IdentityFile",
        mac(key="  IdentityFile ${{RUNBOOK_KEYS}}/%n_%h_%p_%r\n  IdentitiesOnly yes\n"),
        IN,
        files={"mac_127.0.0.1_{port}_{user}": "{a}"},
        env={"RUNBOOK_KEYS": "{dir}"},
    ),
    Case("a variable that is not set", mac(key="  IdentityFile ${{RUNBOOK_NOT_SET}}/x\n" + KEY), CONFIG),
    Case("an RSA key in the old format (PEM)", mac(key=KEY.replace("/a", "/rsa")), "in with `rsa`"),
    Case("an ECDSA key", mac(key=KEY.replace("/a", "/ecdsa")), "in with `ecdsa`"),
    Case(
        "a key that others can read",
        mac(key="  IdentityFile {dir}/open\n  IdentitiesOnly yes\n"),
        USER,
        files={"open": "{a}"},
    ),
    Case("an encrypted key, no agent", mac("IdentityAgent none", key=KEY.replace("/a", "/locked")), USER),
    Case("an encrypted key that the agent holds", mac(key=KEY.replace("/a", "/locked") + AGENT), "in with `locked`"),
    Case(
        "IdentitiesOnly with a `.pub`, seven keys in the agent",
        mac(key=KEY.replace("/a", "/locked.pub") + MANY),
        "in with `locked`",
    ),
    Case(
        "the same without IdentitiesOnly: the named key goes first",
        mac(key="  IdentityFile {keys}/locked.pub\n" + MANY),
        "in with `locked`",
    ),
    Case("no key named, too many in the agent", mac(key="  IdentityFile none\n" + MANY), USER),
    Case(
        "IdentityAgent with a blank, in quotes (1Password's)", mac(key="  IdentityFile none\n" + AGENT), "in with `b`"
    ),
    Case(
        "IdentityAgent none",
        mac("IdentityAgent none", key="  IdentityFile none\n"),
        USER,
        env={"SSH_AUTH_SOCK": "{world}/many/agent.sock"},
    ),
    Case(
        "IdentityAgent $VARIABLE",
        mac("IdentityAgent $RUNBOOK_SOCK", key="  IdentityFile none\n"),
        "in with `b`",
        env={"RUNBOOK_SOCK": "{world}/Group Containers/agent.sock"},
    ),
    Case(
        "IdentityAgent SSH_AUTH_SOCK",
        mac("IdentityAgent SSH_AUTH_SOCK", key="  IdentityFile none\n"),
        "in with `b`",
        env={"SSH_AUTH_SOCK": "{world}/Group Containers/agent.sock"},
    ),
    Case("an IdentityAgent that is not there, a key on disk", mac("IdentityAgent {dir}/nobody"), IN),
    Case(
        "CertificateFile",
        mac("CertificateFile {keys}/certified-cert.pub", key=KEY.replace("/a", "/certified")),
        "in with `the certificate`",
    ),
    Case("a certificate beside its key", mac(key=KEY.replace("/a", "/certified")), "in with `the certificate`"),
    Case(
        "PubkeyAcceptedAlgorithms without the first key's",
        mac(
            "PubkeyAcceptedAlgorithms rsa-sha2-512",
            key="  IdentityFile {keys}/a\n  IdentityFile {keys}/rsa\n  IdentitiesOnly yes\n",
        ),
        "in with `rsa`",
    ),
    Case("PubkeyAuthentication no", mac("PubkeyAuthentication no"), USER),
    # the way
    Case(
        "ProxyCommand with %h, %p and %%",
        GATE + mac("ProxyCommand sh -c 'test ${{#0}} = 2 && exec ssh -F {dir}/config -W %h:%p gate' 1%%"),
        THROUGH,
    ),
    Case(
        "ProxyCommand with quotes",
        GATE + mac("ProxyCommand sh -c \"exec ssh -F '{dir}/config' -W '[%h]:%p' gate\""),
        THROUGH,
    ),
    Case("ProxyCommand none", mac("ProxyCommand none") + "Host *\n  ProxyCommand false\n", IN),
    Case("a ProxyCommand that ends at once", mac("ProxyCommand echo no tunnel >&2; exit 3"), NO),
    Case("a ProxyCommand that is not installed", mac("ProxyCommand no-such-tool %h %p"), NO),
    Case("ProxyJump", GATE + mac("ProxyJump gate"), THROUGH),
    Case(
        "ProxyJump user@host:port",
        mac("ProxyJump {user}@localhost:{gate}") + "Host localhost\n  HostKeyAlias the-gate\n" + KEY + HOSTS,
        THROUGH,
        known="{known}\nthe-gate {gate_key}\n",
    ),
    Case("ProxyJump over two", GATE + SECOND + mac("ProxyJump gate,second"), "in with `a`, through 2 gates"),
    Case(
        "a jump host with a ProxyJump of its own",
        GATE + "  ProxyJump second\n" + SECOND + mac("ProxyJump gate"),
        "in with `a`, through 2 gates",
    ),
    Case(
        "a jump host with a ProxyCommand of its own",
        GATE + "  ProxyCommand ssh -F {dir}/config -W %h:%p second\n" + SECOND + mac("ProxyJump gate"),
        "in with `a`, through 2 gates",
    ),
    Case("a jump host that does not know its key", GATE + mac("ProxyJump gate"), HOST_KEY, known="{known}\n"),
    Case("a jump host that lets nobody in", GATE.replace("/a", "/stranger") + mac("ProxyJump gate"), USER),
    Case("ProxyJump none", mac("ProxyJump none") + "Host *\n  ProxyJump gate\n", IN),
    Case(
        "`Host *` with a ProxyJump, the jump host excepted", GATE + mac() + "Host * !gate\n  ProxyJump gate\n", THROUGH
    ),
    Case("a ProxyJump over the host itself", mac("ProxyJump {user}@127.0.0.1:{port}"), CONFIG),
    # what is spoken
    Case(
        "Ciphers, MACs, KexAlgorithms of one each",
        mac("Ciphers aes256-ctr", "MACs hmac-sha2-512-etm@openssh.com", "KexAlgorithms diffie-hellman-group14-sha256"),
        IN,
    ),
]
