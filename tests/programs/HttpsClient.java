import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Arrays;
import java.util.Base64;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManagerFactory;

/**
 * Sends a request for each line that it reads, on a connection that it keeps: GET for "get", POST of so many bytes for a number. Prints what
 * came of each.
 */
class HttpsClient {
    /** The address, the version, and in files of PEM: the authority, and the client's own certificate and key. */
    public static void main(String[] given) throws Exception {
        SSLParameters parameters = new SSLParameters();
        parameters.setProtocols(new String[] {given[1]});
        HttpClient client =
            HttpClient.newBuilder().sslContext(context(given[2], given[3], given[4])).sslParameters(parameters).build();
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(given[0]));
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            byte[] body = line.equals("get") ? null : new byte[Integer.parseInt(line)];
            HttpRequest next = body == null ? request.GET().build() : request.POST(BodyPublishers.ofByteArray(body)).build();
            HttpResponse<byte[]> answer = client.send(next, BodyHandlers.ofByteArray());
            String told = body == null ? new String(answer.body()).trim() : "echoed " + Arrays.equals(body, answer.body());
            System.out.println(answer.version() + " " + answer.statusCode() + " " + told);
        }
    }

    static SSLContext context(String authority, String certificate, String key) throws Exception {
        KeyStore trusted = KeyStore.getInstance("PKCS12");
        trusted.load(null);
        trusted.setCertificateEntry("authority", certificates(authority)[0]);
        TrustManagerFactory trust = TrustManagerFactory.getInstance("PKIX");
        trust.init(trusted);

        String pem = Files.readString(Path.of(key)).replaceAll("-----.*-----", "");
        byte[] number = Base64.getMimeDecoder().decode(pem);
        KeyStore own = KeyStore.getInstance("PKCS12");
        own.load(null);
        own.setKeyEntry("own", KeyFactory.getInstance("EC").generatePrivate(new PKCS8EncodedKeySpec(number)), new char[0],
            certificates(certificate));
        KeyManagerFactory keys = KeyManagerFactory.getInstance("PKIX");
        keys.init(own, new char[0]);

        SSLContext context = SSLContext.getInstance("TLS");
        context.init(keys.getKeyManagers(), trust.getTrustManagers(), null);
        return context;
    }

    static Certificate[] certificates(String file) throws Exception {
        try (var stream = Files.newInputStream(Path.of(file))) {
            return CertificateFactory.getInstance("X.509").generateCertificates(stream).toArray(new Certificate[0]);
        }
    }
}
