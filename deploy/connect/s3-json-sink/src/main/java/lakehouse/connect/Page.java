package lakehouse.connect;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;

/** The lines of one future object. */
final class Page extends ByteArrayOutputStream {
    final long firstOffset;

    Page(long firstOffset) {
        this.firstOffset = firstOffset;
    }

    /** What has been written, from its beginning, without a copy of it. */
    InputStream content() {
        return new ByteArrayInputStream(buf, 0, count);
    }
}
