# SPDX-License-Identifier: Apache-2.0
"""The lab itself, without agents: what the other tests rest on."""
import pytest

from lab import HOSTS, PODS, address


def test_up_twice_leaves_it_as_it_was(bare_lab):
    servers = {pod: (bare_lab.run_directory / f"{pod}.pid").read_text() for pod in PODS}
    bare_lab.command("up")
    assert {pod: (bare_lab.run_directory / f"{pod}.pid").read_text() for pod in PODS} == servers


def test_pods_reach_each_other_without_a_service(bare_lab, protocol, family):
    for source in PODS:
        for pod in PODS:
            answer = bare_lab.ask(source, protocol, address(pod, family), 8080)
            assert (answer.pod, answer.client) == (pod, address(source, family))


@pytest.mark.parametrize("host", HOSTS)
def test_exec_is_what_these_tests_do_themselves(bare_lab, host):
    command = ["bash", "-c", "ip -o address; echo $PATH $MAGLANE_BPFFS $MAGLANE_SOCKET"]
    assert bare_lab.command("exec", host, *command).stdout == bare_lab.exec(host, *command).stdout


def test_the_client_is_an_outsider(bare_lab, family):
    with pytest.raises(OSError):
        bare_lab.connect("client", "TCP", address("pod-a1", family), 8080, timeout=0.5)


def test_senders_complete_their_checksums(bare_lab):
    for host in HOSTS:
        features = bare_lab.exec(host, "ethtool", "-k", "eth0").stdout
        assert "tx-checksumming: off" in features


def test_unknown_hosts_and_commands_are_usage_errors(bare_lab):
    assert bare_lab.command("exec", "pod-z9", "true", check=False).returncode == 2
    assert bare_lab.command("dance", check=False).returncode == 2
    assert bare_lab.command("up", "--nodes", "7", check=False).returncode == 2
