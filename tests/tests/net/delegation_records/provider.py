#!/usr/bin/env python3
"""Stands in for `gcloud` and `az`: takes the commands of their reference pages, and keeps the zone in a file."""
import argparse
import ipaddress
import json
import os
import sys

state_file, zone = os.environ["STATE"], os.environ["ZONE"]
sets = {}
if os.path.exists(state_file):
    with open(state_file) as file:
        sets = {(it["owner"], it["type"]): it for it in json.load(file)}


def save():
    for (owner, rtype), it in sets.items():
        if not owner.endswith("." + zone):
            sys.exit(f"{owner} is not in {zone}")
        for data in it["records"]:
            if rtype == "NS":
                # The zone never names a server that has no address.
                if not any(sets.get((data, glue), {}).get("records") for glue in ("A", "AAAA")):
                    sys.exit(f"{data} has no glue yet")
            elif ipaddress.ip_address(data).version != {"A": 4, "AAAA": 6}[rtype]:
                sys.exit(f"{data} is no {rtype}")
    with open(state_file, "w") as file:
        json.dump(list(sets.values()), file)


def gcloud(words):
    parser = argparse.ArgumentParser(prog="gcloud dns record-sets", allow_abbrev=False)
    if words[:2] != ["dns", "record-sets"]:
        parser.error(f"invalid choice: {words}")
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("describe", "create", "update"):
        command = verbs.add_parser(verb, allow_abbrev=False)
        command.add_argument("name")
        command.add_argument("--type", required=True, choices=["A", "AAAA", "NS"])
        command.add_argument("--zone", "-z", required=True, choices=["ours"])
        if verb != "describe":
            command.add_argument("--ttl", required=True, type=int)
            command.add_argument("--rrdatas", required=True, type=lambda text: text.split(","))
    asked = parser.parse_args(words[2:])
    if not asked.name.endswith("."):
        sys.exit("the name has no final dot")
    key = (asked.name, asked.type)
    if asked.verb == "describe":
        sys.exit(0 if key in sets else "HTTPError 404: not found")
    if (asked.verb == "create") == (key in sets):
        sys.exit(f"HTTPError 409 or 404: {asked.verb} {key}")
    sets[key] = {"owner": asked.name, "type": asked.type, "ttl": asked.ttl, "records": asked.rrdatas}
    save()


def az(words):
    parser = argparse.ArgumentParser(prog="az network dns record-set", allow_abbrev=False)
    if words[:3] != ["network", "dns", "record-set"]:
        parser.error(f"invalid choice: {words}")
    types = parser.add_subparsers(dest="type", required=True)
    for rtype, field in (("a", "ipv4-address"), ("aaaa", "ipv6-address"), ("ns", "nsdname")):
        verbs = types.add_parser(rtype, allow_abbrev=False).add_subparsers(dest="verb", required=True)
        for verb in ("create", "add-record"):
            command = verbs.add_parser(verb, allow_abbrev=False)
            command.add_argument("--resource-group", "-g", required=True, choices=["ours"])
            command.add_argument("--zone-name", "-z", required=True, choices=[zone.rstrip(".")])
            if verb == "create":
                command.add_argument("--name", "-n", required=True)
                command.add_argument("--ttl", type=int, default=3600)
            else:
                command.add_argument("--record-set-name", "-n", dest="name", required=True)
                command.add_argument("--" + field, dest="data", required=True)
    asked = parser.parse_args(words[3:])
    owner, rtype = f"{asked.name}.{zone}", asked.type.upper()
    if asked.verb == "create":
        sets[owner, rtype] = {"owner": owner, "type": rtype, "ttl": asked.ttl, "records": []}
    else:
        records = sets[owner, rtype]["records"]
        if asked.data not in records:
            records.append(asked.data)
    save()


{"gcloud": gcloud, "az": az}[os.path.basename(sys.argv[0])](sys.argv[1:])
