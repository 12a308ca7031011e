"""Reads a topic of a dataset with stock tools and prints what it finds, one JSON document a line.

    python stock.py localhost:9092 driftless.customers
"""

import argparse
import io
import json
import struct
import urllib.request
from decimal import Decimal

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from fastavro.read import LOGICAL_READERS


def or_number(reader):
    """Python's dates end with the year 9999. What lies beyond, like infinity, stays a number."""

    def read(number, *schemas):
        try:
            return reader(number, *schemas)
        except (OverflowError, ValueError):
            return number

    return read


for name in ("int-date", "long-time-micros", "long-timestamp-micros", "long-local-timestamp-micros"):
    LOGICAL_READERS[name] = or_number(LOGICAL_READERS[name])
LOGICAL_READERS["string-driftless-decimal"] = lambda text, *schemas: Decimal(text)
LOGICAL_READERS["string-driftless-json"] = lambda text, *schemas: json.loads(text, parse_float=Decimal)


def messages(brokers, topic, group=None, isolation="read_committed"):
    """Everything in a topic up to its end: from its beginning, or from where the group stands."""
    consumer = Consumer({
        "bootstrap.servers": brokers,
        "group.id": group or "without-a-group",
        "enable.auto.commit": group is not None,
        "auto.offset.reset": "earliest",
        "enable.partition.eof": True,
        "isolation.level": isolation,
    })
    partitions = consumer.list_topics(topic, timeout=30).topics[topic].partitions
    if group is None:
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    else:
        consumer.subscribe([topic])
    ended = set()
    try:
        while len(ended) < len(partitions):
            message = consumer.poll(60)
            if message is None:
                raise TimeoutError(f"nothing came from {topic} for 60 s")
            if message.error() is None:
                yield message
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
            else:
                raise KafkaException(message.error())
    finally:
        consumer.close()


def schemas_of(brokers, topic):
    """Without a schema registry the id of a schema is 1 + its offset in the topic of schemas."""
    texts = messages(brokers, topic)
    return {text.offset() + 1: fastavro.parse_schema(json.loads(text.value())) for text in texts if text.value()}


class Registry(dict):
    """The schemas of a Confluent-compatible registry, each asked for once."""

    def __init__(self, url):
        super().__init__()
        self.url = url

    def __missing__(self, id):
        with urllib.request.urlopen(f"{self.url}/schemas/ids/{id}", timeout=30) as answer:
            self[id] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        return self[id]


def decode(data, schemas):
    """Confluent's wire format: a zero, the schema's id in four bytes, Avro. Empty is None."""
    if not data:
        return None
    magic, schema = struct.unpack(">bI", data[:5])
    if magic != 0:
        raise ValueError("this is not in Confluent's wire format")
    return fastavro.schemaless_reader(io.BytesIO(data[5:]), schemas[schema])


class Upsert:
    """The records as they stand, the simple way: the last message of a key counts."""

    def __init__(self):
        self.rows = {}

    def take(self, message, value):
        if value["after"] is None:
            self.rows.pop(message.key(), None)
        else:
            self.rows[message.key()] = value["after"]


class Exact(Upsert):
    """Every version once, none that lost a race: each valid one names the id of the one before."""

    def __init__(self):
        super().__init__()
        self.last = {}

    def take(self, message, value):
        seq, id = self.last.get(message.partition(), (0, 0))
        if (value["seq"], value["prev"]) == (seq + 1, id):
            self.last[message.partition()] = (value["seq"], value["id"])
            super().take(message, value)


def plain(value):
    """What JSON can hold; all else as text."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if value is None or isinstance(value, (bool, int, str)):
        return value
    return repr(value) if isinstance(value, float) else str(value)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("brokers")
    arguments.add_argument("topic")
    arguments.add_argument("--group", help="go on where this consumer group stands")
    arguments.add_argument("--isolation", default="read_committed", help="either level gives the same")
    arguments.add_argument("--registry", help="the URL of the schema registry, if one is configured")
    given = arguments.parse_args()
    in_log = given.topic.split(".")[0] + ".__schemas"
    schemas = Registry(given.registry) if given.registry else schemas_of(given.brokers, in_log)
    upsert, exact = Upsert(), Exact()
    for message in messages(given.brokers, given.topic, given.group, given.isolation):
        key, value = decode(message.key(), schemas), decode(message.value(), schemas)
        upsert.take(message, value)
        exact.take(message, value)
        if value["conflict"]:
            for side in filter(None, (value["conflict"][name] for name in ("ancestor", "head", "proposal"))):
                side["value"] = decode(side["value"], schemas)
        place = {"partition": message.partition(), "offset": message.offset()}
        print(json.dumps(plain({**place, "key": key, "value": value})))
    for name, fold in (("upsert", upsert), ("exact", exact)):
        rows = [{"key": decode(key, schemas), "row": row} for key, row in fold.rows.items()]
        print(json.dumps(plain({name: rows})))


main()
