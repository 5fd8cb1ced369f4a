"""Helpers that the tests share, by subject.

Any
    extent             how much of a sweep is done, and many small cases in one test

Streams
    sources            every kind of source, and sources that behave badly
    sinks              the same for sinks
    async_streams      event loops, a transport that does what a test says, and certificates for TLS
    faults             errors of devices
    modes              the checksum modes
    streams            streams whose every boundary is known, and ways to read them
    parsing            parsers that get a stream in pieces
    corruption         seeded damage to streams, and what becomes of it
    python_strategies  framers and deframers written in Python
    transforms         transforms of every kind, those of the package among them, with their twins
    items              items for simple mode, and builders that have finished a message
    shared_writers     framers and sinks for writers that several threads share
    serializers        a serializer as an application has one
    views              payloads, and every way to keep a view of one
    clock              a clock for memory policies
    journal_folders    folders of journals made by hand, and damage to them
    journal_metrics    metrics of a journal that are made up

Journals
    journal_frames     frames that say what they are, and the judge of a journal
    journal_child      programs that write journals, and the server that starts them
    journal_faults     starting, killing and judging them
    journal_scenarios  short programs in which each call of the system fails
    journal_strace     the calls of a program counted, failing or its last
    journal_tails      tails behind a cut
    power_disk         a disk that loses power
    fault_counts       how many faults of each kind were tried

Datasets
    lakes              streams to be exported, and what is in the folders of Parquet files made of them
    export_kills       a program that kills an export at each of its steps

Command line
    cli                runs commands in this process or as the installed script, and compares what they print
    cli_samples        files and journals of every kind

Documents
    documents          the fenced blocks of Markdown, and what of a printed text is stable

Messages
    schemas            the schemas of ``data/schemas`` and ``examples``, and the code that flatc generated from them
    strategies         Hypothesis strategies for messages of ``shapes``
    messages           FlatBuffers made by hand, by generated code, and damaged
    builders           the builder of the `flatbuffers` package and ours, side by side
    records            messages of records
    schema_sweep       every schema that can be had, and flatc as a referee
    record_views       records read in every way
    columns            writing columns and reading them back
    conversion         streams to convert, and what a conversion makes of them
    arrow_types        the Arrow types of a schema, and random records
    arrow_abi          the structures of the Arrow C data interface, and producers that can be wrong in any way

Python
    bad_input          tables of calls, each with the error that must come
    errors             how the tests catch and compare errors
    memory             measurements of memory
    pickling           objects of every public class, and what can be seen of them in any process
    processes          code that runs in a process of its own
    threads            threads that start at once
    bystander          a thread that notices when the interpreter's lock is released
    alarms             real signals whose handlers raise in the middle of some code, and never outside of it
    interrupts         exceptions as of signal handlers, at each point where the interpreter can run one
"""
