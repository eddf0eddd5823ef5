"""Dead letters as an ingestion stores them, made by its own reader and parser."""

from components.ingestion import output
from components.ingestion.blocks import split_file
from components.ingestion.dead_letters import as_mendable, read_letters
from components.ingestion.parsing import parse_events, parse_side_table
from components.ingestion.records import read_batches
from components.ingestion.sources import column_maps, match_sources, sources_of


def store(settings, catalog, folder):
    """Writes the `DeadLetters` of a log into `folder`; returns the accepted rows."""
    maps, accepted = column_maps(settings, catalog), {}
    paths = output.OutputPaths(*[str(folder)] * 6)
    folder.mkdir(parents=True, exist_ok=True)
    for table, files in match_sources(settings).items():
        accepted[table] = []
        for block in (block for file in files for block in split_file(file)):
            path = paths.dead_letter(table, block.file.index, block.index)
            letters = output.TableFile(path)
            source = sources_of(settings)[table]
            for batch in read_batches(block, source, maps[table]):
                if table == "events":
                    rows, dead = parse_events(
                        batch, maps[table], settings, catalog, block.file
                    )
                else:
                    is_item = table == "items"
                    rows, dead = parse_side_table(
                        batch,
                        maps[table],
                        source,
                        "item_id" if is_item else "user_id",
                        catalog.item if is_item else catalog.user,
                    )
                accepted[table] += rows.to_pylist()
                if dead:
                    letters.write(output.dead_letter_table(block.file, dead))
            letters.commit()
    return accepted


def mendable(settings, catalog, folder, table="events"):
    """Stores the dead letters of a log; returns them as a person gets them, in order."""
    store(settings, catalog, folder)
    columns = column_maps(settings, catalog)[table]
    delimiter = sources_of(settings)[table].delimiter
    records = as_mendable(read_letters(folder, table), columns, delimiter)
    return sorted(records, key=lambda record: (record["_file"], record["_position"]))
