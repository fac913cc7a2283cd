// Flink SQL over a recording, as a stream in event time, into PostgreSQL.
//
// Around the SQL: a source that keeps the files in order, and a sink that upserts in batches as the JDBC connector does
// (which does not come with the distribution).

import java.io.Serializable;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.time.LocalDateTime;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.api.connector.sink2.Sink;
import org.apache.flink.api.connector.sink2.SinkWriter;
import org.apache.flink.api.connector.sink2.WriterInitContext;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.connector.file.src.FileSource;
import org.apache.flink.connector.file.src.FileSourceSplit;
import org.apache.flink.connector.file.src.assigners.FileSplitAssigner;
import org.apache.flink.connector.file.src.reader.TextLineInputFormat;
import org.apache.flink.core.fs.Path;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.JsonNode;
import org.apache.flink.shaded.jackson2.com.fasterxml.jackson.databind.ObjectMapper;
import org.apache.flink.streaming.api.datastream.DataStream;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.table.api.Schema;
import org.apache.flink.table.api.Table;
import org.apache.flink.table.api.bridge.java.StreamTableEnvironment;
import org.apache.flink.table.connector.ChangelogMode;
import org.apache.flink.types.Row;
import org.apache.flink.types.RowKind;

public class Views {
    static final ObjectMapper JSON = new ObjectMapper();

    public static void main(String[] arguments) throws Exception {
        String data = arguments[0], url = arguments[1], sql = arguments[2];
        Configuration settings = new Configuration();
        settings.setString("pipeline.object-reuse", "true");
        settings.setString("table.local-time-zone", "UTC");
        settings.setString("table.exec.mini-batch.enabled", "true");
        settings.setString("table.exec.mini-batch.allow-latency", "1 s");
        settings.setString("table.exec.mini-batch.size", "100000");
        settings.setString("taskmanager.memory.network.max", "64 mb");
        // All is one process: a machine that is busy with other things is no failure.
        settings.setString("heartbeat.timeout", "10 min");
        StreamExecutionEnvironment stream = StreamExecutionEnvironment.getExecutionEnvironment(settings);
        stream.setParallelism(1);
        StreamTableEnvironment tables = StreamTableEnvironment.create(stream);

        tables.createTemporaryView("observations", tables.fromDataStream(
            lines(stream, data, "part-").map(Views::observation).returns(Types.ROW_NAMED(
                new String[] {"station_id", "observed_at", "bikes", "docks", "is_renting", "is_returning"},
                Types.STRING, Types.LOCAL_DATE_TIME, Types.INT, Types.INT, Types.BOOLEAN, Types.BOOLEAN)),
            Schema.newBuilder()
                .column("station_id", "STRING").column("observed_at", "TIMESTAMP(3)")
                .column("bikes", "INT").column("docks", "INT")
                .column("is_renting", "BOOLEAN").column("is_returning", "BOOLEAN")
                .watermark("observed_at", "observed_at - INTERVAL '0.001' SECOND").build()));
        tables.createTemporaryView("stations", tables.fromDataStream(
            lines(stream, data, "stations").map(Views::station).returns(Types.ROW_NAMED(
                new String[] {"station_id", "name", "area"}, Types.STRING, Types.STRING, Types.STRING)),
            Schema.newBuilder()
                .column("station_id", "STRING NOT NULL").column("name", "STRING").column("area", "STRING")
                .primaryKey("station_id").build()));

        // The views, each with its key, in the order in which they stand in the file.
        for (String statement : Files.readString(Paths.get(sql)).split(";\\s*\n")) {
            tables.executeSql(statement);
        }
        write(tables, url, "area_hour", "area", "hour");
        write(tables, url, "station_now", "station_id");
        write(tables, url, "critical", "station_id");
        write(tables, url, "station_trend", "station_id");
        write(tables, url, "station_week", "station_id", "weekday", "hour");
        stream.execute("views");
    }

    static DataStream<String> lines(StreamExecutionEnvironment stream, String data, String begin) throws Exception {
        try (var files = Files.list(Paths.get(data))) {
            Path[] paths = files.map(Object::toString)
                .filter(name -> name.endsWith(".ndjson") && name.contains("/" + begin))
                .sorted().map(Path::new).toArray(Path[]::new);
            FileSource<String> source = FileSource.forRecordStreamFormat(new TextLineInputFormat(), paths)
                .setSplitAssigner(InOrder::new).build();
            return stream.fromSource(source, WatermarkStrategy.noWatermarks(), begin);
        }
    }

    static Row observation(String line) throws Exception {
        JsonNode o = JSON.readTree(line);
        return Row.of(o.get("station_id").asText(), LocalDateTime.parse(o.get("observed_at").asText()),
            o.get("bikes").asInt(), o.get("docks").asInt(),
            o.get("is_renting").asBoolean(), o.get("is_returning").asBoolean());
    }

    static Row station(String line) throws Exception {
        JsonNode s = JSON.readTree(line);
        return Row.of(s.get("station_id").asText(), s.get("name").asText(), s.get("region").asText());
    }

    static void write(StreamTableEnvironment tables, String url, String name, String... key) {
        Table table = tables.from(name);
        List<String> columns = table.getResolvedSchema().getColumnNames();
        Schema.Builder schema = Schema.newBuilder();
        table.getResolvedSchema().getColumns().forEach(column -> {
            var type = column.getDataType();
            schema.column(column.getName(), Arrays.asList(key).contains(column.getName()) ? type.notNull() : type);
        });
        schema.primaryKey(key);
        tables.toChangelogStream(table, schema.build(), ChangelogMode.upsert())
            .sinkTo(new Upserts(url, name, columns, Arrays.asList(key))).name(name);
    }

    /** Gives out files in the order in which they were listed. */
    static class InOrder implements FileSplitAssigner {
        private final ArrayDeque<FileSourceSplit> splits;

        InOrder(Collection<FileSourceSplit> splits) {
            this.splits = new ArrayDeque<>(splits);
        }

        @Override
        public Optional<FileSourceSplit> getNext(String host) {
            return Optional.ofNullable(splits.poll());
        }

        @Override
        public void addSplits(Collection<FileSourceSplit> back) {
            splits.addAll(back);
        }

        @Override
        public Collection<FileSourceSplit> remainingSplits() {
            return splits;
        }
    }

    /** Writes what is last of each key, every 5,000 keys and at least once a second. */
    static class Upserts implements Sink<Row>, Serializable {
        private final String url, upsert, delete;
        private final int[] all, keys;

        Upserts(String url, String table, List<String> columns, List<String> key) {
            String marks = String.join(", ", Collections.nCopies(columns.size(), "?"));
            String set = columns.stream().filter(c -> !key.contains(c)).map(c -> c + " = excluded." + c)
                .collect(Collectors.joining(", "));
            this.url = url;
            this.upsert = "INSERT INTO " + table + " (" + String.join(", ", columns) + ") VALUES (" + marks
                + ") ON CONFLICT (" + String.join(", ", key) + ") DO UPDATE SET " + set;
            this.delete = "DELETE FROM " + table + " WHERE "
                + key.stream().map(c -> c + " = ?").collect(Collectors.joining(" AND "));
            this.all = java.util.stream.IntStream.range(0, columns.size()).toArray();
            this.keys = key.stream().mapToInt(columns::indexOf).toArray();
        }

        @Override
        public SinkWriter<Row> createWriter(WriterInitContext context) {
            return new Writer();
        }

        private class Writer implements SinkWriter<Row> {
            private final Map<Row, Row> held = new LinkedHashMap<>();
            private final Connection connection;
            private long written = System.nanoTime();

            Writer() {
                try {
                    connection = DriverManager.getConnection(url);
                    connection.setAutoCommit(false);
                } catch (java.sql.SQLException error) {
                    throw new IllegalStateException(error);
                }
            }

            @Override
            public void write(Row row, Context context) throws java.io.IOException {
                Row key = Row.project(row, keys);
                key.setKind(RowKind.INSERT); // it is part of what makes rows equal
                held.put(key, Row.copy(row));
                if (held.size() >= 5_000 || System.nanoTime() - written > 1_000_000_000L) {
                    flush(false);
                }
            }

            @Override
            public void flush(boolean end) throws java.io.IOException {
                try (PreparedStatement upserts = connection.prepareStatement(upsert);
                        PreparedStatement deletes = connection.prepareStatement(delete)) {
                    for (var entry : held.entrySet()) {
                        RowKind kind = entry.getValue().getKind();
                        boolean gone = kind == RowKind.DELETE || kind == RowKind.UPDATE_BEFORE;
                        add(gone ? deletes : upserts, gone ? entry.getKey() : entry.getValue());
                    }
                    deletes.executeBatch();
                    upserts.executeBatch();
                    connection.commit();
                } catch (java.sql.SQLException error) {
                    throw new java.io.IOException(error);
                }
                held.clear();
                written = System.nanoTime();
            }

            private void add(PreparedStatement statement, Row row) throws java.sql.SQLException {
                for (int i = 0; i < row.getArity(); i++) {
                    statement.setObject(i + 1, row.getField(i));
                }
                statement.addBatch();
            }

            @Override
            public void close() throws Exception {
                flush(true);
                connection.close();
            }
        }
    }
}
